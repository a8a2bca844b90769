#include "image/block_image.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"
#include "image/cached_store.h"

namespace reclo::image {

using repo::ChunkRef;
using repo::Leaf;

// Extents are clipped to what was asked for; `chunk` counts in Leaf::chunks.
struct BlockImage::Piece {
  size_t chunk = 0;
  size_t chunk_offset_bytes = 0;
  MutableByteSpan out;
};

BlockImage::BlockImage(repo::MapReader& maps, const repo::DiskRecord& disk,
                       const BlockImageOptions& options)
    : maps_(maps),
      root_(repo::MapRoot::of(disk)),
      size_bytes_(disk.size_bytes),
      options_(options),
      cache_(options.cache_size_bytes),
      read_ahead_(options.read_ahead_threads > 0 ? options.read_ahead_segments_max : 0),
      fetch_pool_(std::max<size_t>(options.fetch_threads, 1)) {
  if (options.read_ahead_threads > 0)
    read_ahead_pool_ = std::make_unique<TaskPool>(options.read_ahead_threads);
}

BlockImage::~BlockImage() { stop_.request_stop(); }

BlockImageCounters BlockImage::counters() const {
  return {fetched_chunks_, fetched_bytes_, requests_};
}

Result<BlockImage::LeafPointer> BlockImage::find_leaf(uint64_t segment, const CancelToken& cancel) {
  auto leaf = maps_.find_leaf(root_, segment, cancel);
  if (leaf.ok() || leaf.error().code() != Code::kCorruption) return leaf;
  const std::string first = leaf.error().message();
  const CacheRefresh refresh;
  leaf = maps_.find_leaf(root_, segment, cancel);
  if (leaf.ok()) log_warning("{}; fetched again, the stored bytes are good", first);
  return leaf;
}

Status BlockImage::read_at(uint64_t offset_bytes, MutableByteSpan out, const CancelToken& cancel) {
  if (offset_bytes > size_bytes_ || out.size() > size_bytes_ - offset_bytes)
    return Error(Code::kInvalidArgument, fmt::format("{} bytes at {} are past the disk's end ({})",
                                                     out.size(), offset_bytes, size_bytes_));
  if (out.empty()) return {};
  start_read_ahead(read_ahead_.on_read(offset_bytes, out.size()));
  while (!out.empty()) {
    const uint64_t segment = offset_bytes / kSegmentSizeBytes;
    const uint64_t from_bytes = offset_bytes % kSegmentSizeBytes;
    const MutableByteSpan part =
        out.first(std::min<uint64_t>(out.size(), kSegmentSizeBytes - from_bytes));
    Status status = read_in_segment(segment, from_bytes, part, cancel);
    // Another reader that fetched for us was cancelled; we were not.
    while (!status.ok() && status.error().code() == Code::kCancelled && !cancel.fired() &&
           !stop_.stop_requested())
      status = read_in_segment(segment, from_bytes, part, cancel);
    if (!status.ok())
      return std::move(status).error().with(
          fmt::format("reading the disk at byte {}", offset_bytes));
    out = out.subspan(part.size());
    offset_bytes += part.size();
  }
  return {};
}

Status BlockImage::read_in_segment(uint64_t segment, uint64_t from_bytes, MutableByteSpan out,
                                   const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const LeafPointer leaf, find_leaf(segment, cancel));
  const uint64_t to_bytes = from_bytes + out.size();
  uint64_t filled_to = from_bytes;
  std::vector<Piece> pieces;
  if (leaf) {
    for (const repo::Extent& extent : leaf->extents) {
      const uint64_t start = extent.first_page * kPageSizeBytes;
      const uint64_t first = std::max(start, from_bytes);
      const uint64_t last = std::min(start + extent.pages * kPageSizeBytes, to_bytes);
      if (first >= last) continue;
      std::ranges::fill(out.subspan(filled_to - from_bytes, first - filled_to), uint8_t{0});
      pieces.push_back({extent.chunk, extent.chunk_page * kPageSizeBytes + (first - start),
                        out.subspan(first - from_bytes, last - first)});
      filled_to = last;
    }
  }
  std::ranges::fill(out.subspan(filled_to - from_bytes), uint8_t{0});
  return pieces.empty() ? ok_status() : read_pieces(*leaf, pieces, cancel);
}

Status BlockImage::read_pieces(const Leaf& leaf, std::vector<Piece>& pieces,
                               const CancelToken& cancel) {
  std::vector<ChunkRef> chunks;
  constexpr size_t kNone = SIZE_MAX;
  std::vector<size_t> position(leaf.chunks.size(), kNone);  // in `chunks`
  for (const Piece& piece : pieces) {
    if (position[piece.chunk] != kNone) continue;
    position[piece.chunk] = chunks.size();
    chunks.push_back(leaf.chunks[piece.chunk]);
  }
  const auto slots = request_chunks(chunks, true, cancel);
  for (const auto& slot : slots) RECLO_TRY(cache_.wait(*slot, cancel));
  for (const Piece& piece : pieces) {
    const ByteSpan from = slots[position[piece.chunk]]->bytes();
    std::ranges::copy(from.subspan(piece.chunk_offset_bytes, piece.out.size()), piece.out.begin());
  }
  return {};
}

std::vector<std::shared_ptr<ChunkCache::Slot>> BlockImage::request_chunks(
    std::span<const ChunkRef> chunks, bool in_parallel, const CancelToken& cancel) {
  std::vector<std::shared_ptr<ChunkCache::Slot>> slots;
  std::vector<ChunkRef> ours;
  std::vector<std::shared_ptr<ChunkCache::Slot>> our_slots;
  for (const ChunkRef& chunk : chunks) {
    auto [slot, owner] = cache_.acquire(chunk.id, chunk.pages * kPageSizeBytes);
    if (owner) {
      ours.push_back(chunk);
      our_slots.push_back(slot);
    }
    slots.push_back(std::move(slot));
  }
  const auto groups = plan_fetches(ours);
  const auto fetch = [&](const FetchGroup& group, const CancelToken& token) {
    ++requests_;
    fetched_bytes_ += fetch_group(
        maps_.slots(), ours, group, [&](size_t i) { return our_slots[i]->mutable_bytes(); },
        [&](size_t i, Status status) {
          ++fetched_chunks_;
          cache_.publish(our_slots[i], std::move(status));
        },
        token);
  };
  if (!in_parallel || groups.size() <= 1) {
    for (const FetchGroup& group : groups) fetch(group, cancel);
    return slots;
  }
  TaskGroup tasks(fetch_pool_, cancel);
  for (size_t i = 1; i < groups.size(); ++i)
    tasks.spawn([&, i]() -> Status {
      fetch(groups[i], tasks.token());
      return {};  // errors travel with their chunks
    });
  fetch(groups[0], cancel);
  ignore_error(tasks.wait(), "every chunk was published with its own outcome");
  return slots;
}

void BlockImage::start_read_ahead(SegmentSpan segments) {
  segments.end = std::min(segments.end, divide_up(size_bytes_, kSegmentSizeBytes));
  for (uint64_t segment = segments.first; segment < segments.end; ++segment) {
    // More than the pool can do soon is left to the readers themselves.
    if (read_ahead_tasks_.fetch_add(1) >= size_t{2} * options_.read_ahead_segments_max) {
      --read_ahead_tasks_;
      return;
    }
    read_ahead_pool_->run([this, segment] {
      if (!stop_.stop_requested()) read_segment_ahead(segment);
      --read_ahead_tasks_;
    });
  }
}

void BlockImage::read_segment_ahead(uint64_t segment) {
  const CancelToken cancel(stop_.get_token());
  const auto leaf = find_leaf(segment, cancel);
  // What is wrong is told to whoever really reads there.
  if (!leaf.ok() || !*leaf) return;
  request_chunks((*leaf)->chunks, false, cancel);
}

Status BlockImage::warm(disk::Range range, const CancelToken& cancel) {
  const uint64_t end_bytes = std::min(range.end_bytes(), size_bytes_);
  uint64_t at = range.offset_bytes;
  while (at < end_bytes) {
    const uint64_t segment = at / kSegmentSizeBytes;
    const uint64_t base = segment * kSegmentSizeBytes;
    const uint64_t to = std::min(end_bytes, base + kSegmentSizeBytes);
    RECLO_ASSIGN_OR_RETURN(const LeafPointer leaf, find_leaf(segment, cancel));
    std::vector<ChunkRef> chunks;
    if (leaf) {
      std::vector<bool> seen(leaf->chunks.size());
      for (const repo::Extent& extent : leaf->extents) {
        const uint64_t start = base + extent.first_page * kPageSizeBytes;
        if (start >= to || start + extent.pages * kPageSizeBytes <= at || seen[extent.chunk])
          continue;
        seen[extent.chunk] = true;
        chunks.push_back(leaf->chunks[extent.chunk]);
      }
    }
    for (const FetchGroup& group : plan_fetches(chunks)) {
      const std::string key = maps_.slots().pack_object_key(group.pack);
      RECLO_ASSIGN_OR_RETURN(const Bytes unused,
                             maps_.slots().store().get_range(key, group.range, cancel));
    }
    at = to;
  }
  return {};
}

Result<std::vector<Run>> BlockImage::runs(disk::Range range, size_t runs_max,
                                          const CancelToken& cancel) {
  std::vector<Run> out;
  const uint64_t end_bytes = std::min(range.end_bytes(), size_bytes_);
  uint64_t at = range.offset_bytes;
  // Adds [at, to); false when it would need one run too many.
  const auto add = [&](uint64_t to, bool is_data) {
    to = std::min(to, end_bytes);
    if (to <= at) return true;
    if (!out.empty() && out.back().is_data == is_data) {
      out.back().range.size_bytes += to - at;
    } else if (out.size() == runs_max) {
      return false;
    } else {
      out.push_back({{at, to - at}, is_data});
    }
    at = to;
    return true;
  };
  if (at >= end_bytes || runs_max == 0) return out;

  bool full = false;
  const Error enough(Code::kCancelled, "");
  const Status walked = maps_.for_each_leaf(
      root_, at / kSegmentSizeBytes, divide_up(end_bytes, kSegmentSizeBytes),
      [&](uint64_t segment, const repo::NodeRef& ref) -> Status {
        const uint64_t base = segment * kSegmentSizeBytes;
        full = !add(base, false);
        if (full) return enough;
        RECLO_ASSIGN_OR_RETURN(const LeafPointer leaf, maps_.leaf(ref, cancel));
        for (const repo::Extent& extent : leaf->extents) {
          const uint64_t start = base + extent.first_page * kPageSizeBytes;
          full = !add(start, false) || !add(start + extent.pages * kPageSizeBytes, true);
          if (full) return enough;
        }
        return {};
      },
      cancel);
  if (full) {
    ignore_error(walked, "stopped by ourselves: enough runs");
    return out;
  }
  RECLO_TRY(walked);
  add(end_bytes, false);
  return out;
}

}  // namespace reclo::image
