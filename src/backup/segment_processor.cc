#include "backup/segment_processor.h"

#include <algorithm>

#include "base/limits.h"

namespace reclo::backup {
namespace {

constexpr uint64_t kPieceSizeBytes = 256 * kKiB;

// Whether the leaf that `result` describes is the parent's: so after the tags were lost.
bool equals_parent(const SegmentResult& result, const repo::Leaf& parent) {
  repo::Leaf leaf = result.kept;
  for (const NewChunk& chunk : result.chunks) {
    if (!chunk.existing) return false;
    add_chunk(leaf, chunk.reference, chunk.runs);
  }
  finish_leaf(leaf);
  return leaf == parent;
}

}  // namespace

SegmentProcessor::SegmentProcessor(const PipelineContext& context)
    : context_(context),
      memory_(make_aligned_buffer(kSegmentSizeBytes)),
      segment_(memory_.get(), kSegmentSizeBytes) {
  std::memset(segment_.data(), 0, segment_.size());
  context.hasher->page_tags(segment_.first(kPageSizeBytes), {&zero_page_tag_, 1});
}

// Afterwards segment_ holds the segment as it will be restored (what is not read is zeros), and
// tags_ its pages' tags. Each piece is tagged while the processor's cache still holds it.
Status SegmentProcessor::read_and_tag(uint64_t segment_index) {
  const uint64_t start = segment_index * kSegmentSizeBytes;
  RECLO_ASSIGN_OR_RETURN(const auto ranges,
                         context_.plan->read_ranges(segment_index, *context_.source));
  // Only what the last segment wrote and this one does not is zeroed: usually nothing.
  const std::vector<disk::Range> stale = std::move(dirty_);
  dirty_.clear();
  for (const disk::Range& range : ranges) {
    const uint64_t end = std::min(range.end_bytes(), context_.source->size_bytes());
    dirty_.push_back({range.offset_bytes - start, end - range.offset_bytes});
  }
  for (const disk::Range& range : without(stale, dirty_))
    std::memset(segment_.data() + range.offset_bytes, 0, range.size_bytes);
  tags_.fill(PageTag());
  for (const disk::Range& range : dirty_) {
    context_.source->will_read({start + range.offset_bytes, range.size_bytes});
    for (uint64_t at = range.offset_bytes; at < range.end_bytes(); at += kPieceSizeBytes) {
      const disk::Range piece{at, std::min(kPieceSizeBytes, range.end_bytes() - at)};
      RECLO_TRY(read_piece(start, piece));
      tag_piece(piece);
    }
    context_.statistics->read_bytes += range.size_bytes;
  }
  return {};
}

Status SegmentProcessor::read_piece(uint64_t segment_start_bytes, disk::Range piece) {
  const StageTimer timer(*context_.statistics, Stage::kRead);
  return context_.source->read_at(segment_start_bytes + piece.offset_bytes,
                                  segment_.subspan(piece.offset_bytes, piece.size_bytes));
}

// A page of zeros is a hole; the runs between such pages are tagged at once.
void SegmentProcessor::tag_piece(disk::Range piece) {
  const StageTimer timer(*context_.statistics, Stage::kHash);
  const auto page_bytes = [&](uint64_t first, uint64_t count) {
    return segment_.subspan(first * kPageSizeBytes, count * kPageSizeBytes);
  };
  const uint64_t piece_end = divide_up(piece.end_bytes(), kPageSizeBytes);
  for (uint64_t page = piece.offset_bytes / kPageSizeBytes; page < piece_end;) {
    uint64_t end = page;
    while (end < piece_end && !is_all_zero(page_bytes(end, 1))) ++end;
    context_.hasher->page_tags(page_bytes(page, end - page),
                               std::span(tags_).subspan(page, end - page));
    context_.statistics->allocated_bytes += (end - page) * kPageSizeBytes;
    page = end + 1;
  }
}

Result<std::shared_ptr<const repo::Leaf>> SegmentProcessor::parent_leaf(uint64_t segment_index,
                                                                        const CancelToken& cancel) {
  if (!context_.parent_disk_index) return std::shared_ptr<const repo::Leaf>();
  return context_.parent_reader->find_leaf(context_.parent_roots[*context_.parent_disk_index],
                                           segment_index, cancel);
}

Result<SegmentResult> SegmentProcessor::process(uint64_t segment_index, const CancelToken& cancel) {
  RECLO_TRY(read_and_tag(segment_index));
  SegmentResult result;
  result.segment_index = segment_index;

  SegmentTags before;
  const bool has_memory = context_.parent_tags != nullptr;
  bool know_before = false;
  if (has_memory) {
    RECLO_ASSIGN_OR_RETURN(know_before, context_.parent_tags->read(segment_index, before));
    if (know_before && same_pages(tags_, before)) return result;
    if (!know_before) ++context_.statistics->damaged_memories;
  }
  const bool holes_only =
      std::all_of(tags_.begin(), tags_.end(), [](const PageTag& tag) { return tag.is_zero(); });
  if (has_memory || !holes_only) result.tags = std::make_unique<SegmentTags>(tags_);
  RECLO_ASSIGN_OR_RETURN(const auto parent, parent_leaf(segment_index, cancel));
  if (holes_only && !parent) return result;
  SegmentDiff diff = diff_segment(tags_, know_before ? &before : nullptr, parent.get());
  result.kept = std::move(diff.kept);
  for (const ChunkPlan& plan : diff.chunks) {
    RECLO_ASSIGN_OR_RETURN(NewChunk chunk, make_chunk(plan, parent.get(), cancel));
    result.chunks.push_back(std::move(chunk));
  }
  result.leaf_changed = !parent || !equals_parent(result, *parent);
  return result;
}

Result<NewChunk> SegmentProcessor::make_chunk(const ChunkPlan& plan, const repo::Leaf* parent,
                                              const CancelToken& cancel) {
  NewChunk chunk;
  chunk.runs = plan.runs;
  std::array<PageTag, kPagesPerSegment> tags;
  size_t count = 0;
  for (const PageRun& run : plan.runs)
    for (uint32_t i = 0; i < run.pages; ++i) {
      // A hole that was filled to save an extent is stored as the zeros it reads as.
      const PageTag& tag = tags_[run.first_page + i];
      tags[count++] = tag.is_zero() ? zero_page_tag_ : tag;
    }
  chunk.reference.id = context_.hasher->chunk_id(std::span(tags).first(count));
  chunk.reference.pages = plan.pages;
  RECLO_ASSIGN_OR_RETURN(const auto existing,
                         find_existing(chunk.reference.id, plan.pages, parent, cancel));
  if (existing) {
    chunk.reference = *existing;
    chunk.existing = true;
    return chunk;
  }
  RECLO_TRY(compress(gather(plan), chunk.payload));
  return chunk;
}

Result<std::optional<repo::ChunkRef>> SegmentProcessor::find_existing(const ChunkId& id,
                                                                      uint16_t pages,
                                                                      const repo::Leaf* parent,
                                                                      const CancelToken& cancel) {
  const auto in_leaf = [&](const repo::Leaf& leaf) -> std::optional<repo::ChunkRef> {
    for (const repo::ChunkRef& chunk : leaf.chunks)
      if (chunk.id == id && chunk.pages == pages) return chunk;
    return std::nullopt;
  };
  if (parent != nullptr)
    if (auto found = in_leaf(*parent)) return found;
  const auto place = context_.index->find(id);
  if (!place) return std::optional<repo::ChunkRef>();
  if (place->stored)
    return place->stored->pages == pages ? place->stored : std::optional<repo::ChunkRef>();
  // A hint from an earlier run: only what the pinned parent still refers to may be used.
  if (context_.parent_reader == nullptr || place->disk_index >= context_.parent_roots.size())
    return std::optional<repo::ChunkRef>();
  RECLO_ASSIGN_OR_RETURN(const auto leaf,
                         context_.parent_reader->find_leaf(context_.parent_roots[place->disk_index],
                                                           place->segment_index, cancel));
  return leaf ? in_leaf(*leaf) : std::optional<repo::ChunkRef>();
}

ByteSpan SegmentProcessor::gather(const ChunkPlan& plan) {
  const auto run_bytes = [&](const PageRun& run) {
    return segment_.subspan(run.first_page * kPageSizeBytes, run.pages * kPageSizeBytes);
  };
  if (plan.runs.size() == 1) return run_bytes(plan.runs[0]);
  gathered_.clear();
  for (const PageRun& run : plan.runs) {
    const ByteSpan bytes = run_bytes(run);
    gathered_.insert(gathered_.end(), bytes.begin(), bytes.end());
  }
  return gathered_;
}

Status SegmentProcessor::compress(ByteSpan raw, Bytes& payload) {
  {
    const StageTimer timer(*context_.statistics, Stage::kCompress);
    payload = compressor_.encode(raw, context_.compression_level->load(std::memory_order_relaxed));
  }
  // Decode and compare before anything is uploaded: broken memory and compressor bugs stop here.
  const StageTimer timer(*context_.statistics, Stage::kCheck);
  check_.resize(raw.size());
  RECLO_TRY_WITH(decompressor_.decode(payload, MutableByteSpan(check_)),
                 "checking what was compressed");
  if (!std::equal(raw.begin(), raw.end(), check_.begin()))
    return Error(Code::kCorruption,
                 "compressed data does not decompress to what was read: this machine's memory may "
                 "be faulty");
  return {};
}

}  // namespace reclo::backup
