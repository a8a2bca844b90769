// Recovery points of plain byte arrays, for this module's tests: written with the format's own
// parts (packs, map builder, session), beside the real pipeline.
#pragma once

#include <memory>
#include <random>
#include <vector>

#include "image/image_spec.h"
#include "os/file.h"
#include "repo/test_repository.h"
#include "store/folder_store.h"

namespace reclo::image::testing {

using repo::testing::must;
using repo::testing::test_limit;

/// A disk like real ones: runs of text-like, random and zero bytes.
inline Bytes make_disk(uint64_t size_bytes, uint64_t seed, double zero_share = 0.3) {
  Bytes disk(size_bytes);
  std::mt19937_64 random(seed);
  constexpr uint64_t kRun = 64 * kKiB;
  for (uint64_t at = 0; at < size_bytes; at += kRun) {
    const uint64_t end = std::min(size_bytes, at + kRun);
    const double kind = static_cast<double>(random() % 1000) / 1000;
    if (kind < zero_share) continue;
    const bool is_text = random() % 4 != 0;
    for (uint64_t i = at; i + 8 <= end; i += 8) {
      const uint64_t word = random();
      store_le<uint64_t>(disk.data() + i,
                         is_text ? 0x2020202020202020u | (word & 0x0f0f0f0f) : word);
    }
  }
  return disk;
}

/// Overwrites `count` random pages.
inline void change_pages(Bytes& disk, uint64_t seed, size_t count) {
  std::mt19937_64 random(seed);
  for (size_t i = 0; i < count; ++i) {
    const uint64_t page = random() % (disk.size() / kPageSizeBytes);
    for (uint64_t b = 0; b < kPageSizeBytes; b += 8)
      store_le<uint64_t>(disk.data() + page * kPageSizeBytes + b, random());
  }
}

/// A server of one disk in a repository of its own.
class TestServer {
 public:
  explicit TestServer(store::ObjectStore& store)
      : store_(store), repository_(store), keys_(repo::make_machine_keys("server")) {
    must(repo::enrol_machine(store, repository_.get().id(), repository_.get().config().public_key,
                             keys_, test_limit()));
  }

  /// The first point stores 256 KiB chunks; later ones patch what changed, as incrementals do.
  const repo::Point& back_up(ByteSpan disk) {
    repo::SessionOptions options;
    if (!points_.empty()) options.pins = {points_.back().record.id};
    session_ = must(repo::SessionWriter::begin(repository_.get(), keys_, options, test_limit()));
    repo::PointRecord record;
    record.sequence = points_.size() + 1;
    record.kind = points_.empty() ? repo::PointKind::kFull : repo::PointKind::kIncremental;
    if (!points_.empty()) {
      record.previous = points_.back().record.id;
      record.previous_digest = points_.back().digest;
    }
    record.started = record.taken = record.finished = wall_now();
    record.disks.push_back(write_disk(disk));
    flush(data_pack_);
    flush(map_pack_);
    points_.push_back(must(session_->commit(std::move(record), test_limit())));
    previous_ = to_bytes(disk);
    return points_.back();
  }

  std::unique_ptr<repo::SlotReader> reader(store::ObjectStore* through = nullptr) const {
    return std::make_unique<repo::SlotReader>(through != nullptr ? *through : store_,
                                              repository_.get().id(), keys_.id,
                                              keys_.map_key.clone(), repository_.clone_box());
  }
  const std::vector<repo::Point>& points() const { return points_; }
  const MachineId& machine() const { return keys_.id; }
  const crypto::SecretKey& box_secret_key() const { return repository_.box().secret_key; }
  std::string pack_key(const repo::PackId& pack) const {
    return repo::layout::pack(keys_.id, pack);
  }

 private:
  repo::SlotAddress store_slot(std::unique_ptr<repo::PackBuilder>& pack, repo::PackKind kind,
                               const ChunkId& id, ByteSpan raw) {
    if (pack && pack->full()) flush(pack);
    if (!pack) pack = std::make_unique<repo::PackBuilder>(session_->new_pack(kind));
    return pack->add(id, compressor_.encode(raw, 1));
  }
  void flush(std::unique_ptr<repo::PackBuilder>& pack) {
    if (!pack) return;
    must(session_->upload(std::move(*pack).finish(), test_limit()));
    pack.reset();
  }
  repo::ChunkRef store_chunk(ByteSpan raw) {
    std::vector<PageTag> tags(raw.size() / kPageSizeBytes);
    hasher().page_tags(raw, tags);
    repo::ChunkRef chunk;
    chunk.id = hasher().chunk_id(tags);
    chunk.pages = static_cast<uint16_t>(tags.size());
    chunk.at = store_slot(data_pack_, repo::PackKind::kData, chunk.id, raw);
    return chunk;
  }
  const crypto::ContentHasher& hasher() {
    if (!hasher_) hasher_ = std::make_unique<crypto::ContentHasher>(keys_.map_key);
    return *hasher_;
  }

  // A disk's last page may be a part of one: it is stored padded with zeros.
  static Bytes segment_of(ByteSpan disk, uint64_t segment) {
    Bytes out(kSegmentSizeBytes);
    const uint64_t base = segment * kSegmentSizeBytes;
    if (base < disk.size())
      std::ranges::copy(disk.subspan(base, std::min(kSegmentSizeBytes, disk.size() - base)),
                        out.begin());
    return out;
  }

  void add_chunks(repo::testing::LeafPages& pages, ByteSpan segment) {
    for (uint64_t first = 0; first < kPagesPerSegment; first += kPagesPerChunk) {
      const ByteSpan raw = segment.subspan(first * kPageSizeBytes, kChunkSizeBytes);
      if (is_all_zero(raw)) continue;
      const repo::ChunkRef chunk = store_chunk(raw);
      for (uint64_t i = 0; i < kPagesPerChunk; ++i)
        if (!is_all_zero(raw.subspan(i * kPageSizeBytes, kPageSizeBytes)))
          pages.set(first + i, chunk, i);
    }
  }
  void add_patch(repo::testing::LeafPages& pages, ByteSpan before, ByteSpan after) {
    Bytes patch;
    std::vector<size_t> changed;
    for (size_t page = 0; page < kPagesPerSegment; ++page) {
      const ByteSpan now = after.subspan(page * kPageSizeBytes, kPageSizeBytes);
      if (std::ranges::equal(now, before.subspan(page * kPageSizeBytes, kPageSizeBytes))) continue;
      if (is_all_zero(now)) {
        pages.clear(page);
        continue;
      }
      patch.insert(patch.end(), now.begin(), now.end());
      changed.push_back(page);
    }
    if (changed.empty()) return;
    const repo::ChunkRef chunk = store_chunk(patch);
    for (size_t i = 0; i < changed.size(); ++i) pages.set(changed[i], chunk, i);
  }

  repo::DiskRecord write_disk(ByteSpan disk) {
    repo::MapRoot parent;
    if (!points_.empty()) parent = repo::MapRoot::of(points_.back().record.disks[0]);
    const auto slots = reader();
    repo::MapReader maps(*slots);
    repo::MapBuilder builder(
        disk.size(), parent, &maps, [&](ByteSpan node) -> Result<repo::NodeRef> {
          const ChunkId id = hasher().node_id(node);
          return repo::NodeRef{id, store_slot(map_pack_, repo::PackKind::kMap, id, node)};
        });
    for (uint64_t segment = 0; segment * kSegmentSizeBytes < disk.size(); ++segment) {
      const Bytes before = segment_of(previous_, segment);
      const Bytes after = segment_of(disk, segment);
      if (before == after) continue;
      const auto old = must(maps.find_leaf(parent, segment, test_limit()));
      repo::testing::LeafPages pages(old.get());
      if (old) {
        add_patch(pages, before, after);
      } else {
        add_chunks(pages, after);
      }
      must(builder.set(segment, pages.leaf(), test_limit()));
    }
    const repo::MapRoot root = must(std::move(builder).finish(test_limit()));
    repo::DiskRecord record;
    record.name = "/dev/vda";
    record.format = "raw";
    record.size_bytes = disk.size();
    record.map_height = root.height;
    record.map_root = root.root;
    return record;
  }

  store::ObjectStore& store_;
  repo::testing::TestRepository repository_;
  repo::MachineKeys keys_;
  std::vector<repo::Point> points_;
  Bytes previous_;
  repo::Compressor compressor_;
  std::unique_ptr<crypto::ContentHasher> hasher_;
  std::unique_ptr<repo::SessionWriter> session_;
  std::unique_ptr<repo::PackBuilder> data_pack_;
  std::unique_ptr<repo::PackBuilder> map_pack_;
};

}  // namespace reclo::image::testing
