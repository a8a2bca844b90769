#include "backup/pack_pipeline.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/kill_point.h"
#include "base/limits.h"

namespace reclo::backup {
namespace {

constexpr size_t kQueuedPacksMax = 2;
constexpr int kNodeCompressionLevel = 3;

}  // namespace

PackPipeline::PackPipeline(const Parts& parts, TaskGroup& group, size_t upload_threads,
                           CompressionPolicy policy)
    : parts_(parts),
      group_(group),
      policy_(policy),
      jobs_(kQueuedPacksMax),
      compression_level_(policy.level_min) {
  for (size_t i = 0; i < upload_threads; ++i) group_.spawn([this] { return upload_loop(); });
}

Status PackPipeline::upload_loop() {
  while (auto job = jobs_.pop(group_.token())) {
    const uint64_t size_bytes = job->pack.bytes.size();
    {
      const StageTimer timer(*parts_.statistics, Stage::kUpload);
      RECLO_TRY(parts_.session->upload(job->pack, group_.token()));
    }
    parts_.statistics->uploaded_bytes += size_bytes;
    ++parts_.statistics->put_requests;
    RECLO_KILL_POINT("backup.before_journal");
    if (!job->chunks.empty()) RECLO_TRY(parts_.journal->append_pack(job->chunks));
    if (job->pack.kind == repo::PackKind::kMap)
      parts_.map_cache->keep(parts_.packs_prefix + fmt::format("{:08x}", job->pack.id.number),
                             job->pack.bytes);
  }
  return {};
}

Status PackPipeline::send(repo::PackBuilder builder, std::vector<JournaledChunk> chunks) {
  adapt_level();
  if (!jobs_.push({std::move(builder).finish(), std::move(chunks)}, group_.token()))
    return Error(Code::kCancelled, "the upload was stopped");
  return {};
}

void PackPipeline::adapt_level() {
  const size_t waiting = jobs_.size();
  const int level = compression_level_.load();
  if (waiting >= kQueuedPacksMax) {
    compression_level_ = std::min(level + 1, policy_.level_max);
  } else if (waiting == 0) {
    compression_level_ = std::max(level - 1, policy_.level_min);
  }
}

Result<repo::SlotAddress> PackPipeline::add_chunk(const ChunkId& id, uint16_t pages,
                                                  ByteSpan payload, uint16_t disk_index,
                                                  uint64_t segment_index) {
  if (!data_) data_.emplace(parts_.session->new_pack(repo::PackKind::kData));
  repo::SlotAddress at;
  {
    const StageTimer timer(*parts_.statistics, Stage::kSeal);
    at = data_->add(id, payload);
  }
  parts_.statistics->stored_bytes += at.stored_bytes;
  parts_.statistics->new_bytes += pages * kPageSizeBytes;
  data_chunks_.push_back({{id, at, pages}, disk_index, static_cast<uint32_t>(segment_index)});
  if (data_->full()) {
    repo::PackBuilder builder = std::move(*data_);
    data_.reset();
    RECLO_TRY(send(std::move(builder), std::exchange(data_chunks_, {})));
  }
  return at;
}

Result<repo::NodeRef> PackPipeline::add_node(ByteSpan node) {
  if (!map_) map_.emplace(parts_.session->new_pack(repo::PackKind::kMap));
  repo::NodeRef ref;
  ref.id = parts_.hasher->node_id(node);
  ref.at = map_->add(ref.id, compressor_.encode(node, kNodeCompressionLevel));
  parts_.statistics->map_bytes += ref.at.stored_bytes;
  if (map_->full()) {
    repo::PackBuilder builder = std::move(*map_);
    map_.reset();
    RECLO_TRY(send(std::move(builder), {}));
  }
  return ref;
}

Status PackPipeline::finish() {
  if (data_) RECLO_TRY(send(std::move(*data_), std::exchange(data_chunks_, {})));
  if (map_) RECLO_TRY(send(std::move(*map_), {}));
  data_.reset();
  map_.reset();
  jobs_.close();
  return {};
}

}  // namespace reclo::backup
