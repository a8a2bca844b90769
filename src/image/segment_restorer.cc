#include "image/segment_restorer.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/limits.h"

namespace reclo::image {
namespace {

// A hole shorter than this inside data is written with it: one large write is faster than three.
constexpr size_t kHolePagesMin = 64 * kKiB / kPageSizeBytes;

// The extent that holds a whole chunk, in one piece: it can be decoded in place.
const repo::Extent* whole_extent(const repo::Leaf& leaf, size_t chunk) {
  for (const repo::Extent& extent : leaf.extents)
    if (extent.chunk == chunk)
      return extent.chunk_page == 0 && extent.pages == leaf.chunks[chunk].pages ? &extent : nullptr;
  return nullptr;
}

}  // namespace

bool is_damage(const Error& error) {
  return error.code() == Code::kCorruption || error.code() == Code::kNotFound ||
         error.code() == Code::kUnsupported;
}

SegmentRestorer::SegmentRestorer(repo::SlotReader& slots, disk::BlockSink& sink,
                                 bool target_is_zero, bool update)
    : slots_(slots),
      sink_(sink),
      target_is_zero_(target_is_zero),
      update_(update),
      buffer_(make_aligned_buffer(kSegmentSizeBytes)),
      pages_(kPagesPerSegment) {
  if (update) target_ = make_aligned_buffer(kSegmentSizeBytes);
}

Status SegmentRestorer::read_target(disk::Range range) {
  const MutableByteSpan whole(target_.get(), kSegmentSizeBytes);
  RECLO_TRY(sink_.read_at(range.offset_bytes, whole.first(range.size_bytes)));
  // A disk's last page may be a part of one: it is stored padded with zeros.
  std::ranges::fill(whole.subspan(range.size_bytes), uint8_t{0});
  return {};
}

std::vector<bool> SegmentRestorer::find_kept_chunks(const repo::Leaf& leaf) const {
  std::vector<bool> kept(leaf.chunks.size());
  std::vector<std::vector<PageTag>> tags(leaf.chunks.size());
  std::vector<size_t> covered(leaf.chunks.size());
  for (const repo::Extent& extent : leaf.extents) covered[extent.chunk] += extent.pages;
  for (const repo::Extent& extent : leaf.extents) {
    // A chunk that is not used as a whole has an identity that the target cannot show.
    const size_t chunk_pages = leaf.chunks[extent.chunk].pages;
    if (covered[extent.chunk] < chunk_pages) continue;
    std::vector<PageTag>& own = tags[extent.chunk];
    own.resize(chunk_pages);
    slots_.hasher().page_tags(
        {target_.get() + extent.first_page * kPageSizeBytes, extent.pages * kPageSizeBytes},
        std::span(own).subspan(extent.chunk_page, extent.pages));
  }
  for (size_t i = 0; i < leaf.chunks.size(); ++i)
    kept[i] = !tags[i].empty() && slots_.hasher().chunk_id(tags[i]) == leaf.chunks[i].id;
  return kept;
}

void SegmentRestorer::place_chunk(const repo::Leaf& leaf, size_t chunk, ByteSpan scratch,
                                  bool good) {
  for (const repo::Extent& extent : leaf.extents) {
    if (extent.chunk != chunk) continue;
    const auto to = pages_.begin() + extent.first_page;
    std::fill(to, to + extent.pages, good ? PageState::kFetched : PageState::kDamaged);
    uint8_t* const out = buffer_.get() + extent.first_page * kPageSizeBytes;
    if (!good) {
      std::memset(out, 0, extent.pages * kPageSizeBytes);
    } else if (!scratch.empty()) {
      std::memcpy(out, scratch.data() + extent.chunk_page * kPageSizeBytes,
                  extent.pages * kPageSizeBytes);
    }
  }
}

Status SegmentRestorer::fetch(disk::Range range, const repo::Leaf& leaf,
                              const std::vector<bool>& kept, SegmentOutcome& outcome,
                              const CancelToken& cancel) {
  std::vector<repo::ChunkRef> wanted;
  std::vector<size_t> wanted_index;
  for (size_t i = 0; i < leaf.chunks.size(); ++i) {
    if (kept[i]) continue;
    wanted.push_back(leaf.chunks[i]);
    wanted_index.push_back(i);
  }
  std::optional<Error> failed;
  const auto place = [&](size_t i) -> MutableByteSpan {
    const size_t size = wanted[i].pages * kPageSizeBytes;
    if (const repo::Extent* extent = whole_extent(leaf, wanted_index[i]))
      return {buffer_.get() + extent->first_page * kPageSizeBytes, size};
    if (!scratch_) scratch_ = make_aligned_buffer(kSegmentSizeBytes);
    return {scratch_.get(), size};
  };
  const auto done = [&](size_t i, Status status) {
    const size_t chunk = wanted_index[i];
    const bool in_place = whole_extent(leaf, chunk) != nullptr;
    const bool good = status.ok();
    place_chunk(
        leaf, chunk,
        good && !in_place ? ByteSpan(scratch_.get(), wanted[i].pages * kPageSizeBytes) : ByteSpan(),
        good);
    if (good) return;
    if (!is_damage(status.error())) {
      failed = status.error();
      return;
    }
    for (const repo::Extent& extent : leaf.extents) {
      const uint64_t first = extent.first_page * kPageSizeBytes;
      if (extent.chunk != chunk || first >= range.size_bytes) continue;
      outcome.damaged.push_back(
          {{range.offset_bytes + first,
            std::min(extent.pages * kPageSizeBytes, range.size_bytes - first)},
           status.error()});
    }
  };
  for (const FetchGroup& group : plan_fetches(wanted)) {
    outcome.fetched_bytes += fetch_group(slots_, wanted, group, place, done, cancel);
    if (failed) return *failed;
  }
  return {};
}

Result<SegmentOutcome> SegmentRestorer::restore(disk::Range range, const repo::Leaf& leaf,
                                                const CancelToken& cancel) {
  SegmentOutcome outcome;
  std::ranges::fill(pages_, PageState::kHole);
  std::vector<bool> kept(leaf.chunks.size());
  if (update_) {
    RECLO_TRY(read_target(range));
    kept = find_kept_chunks(leaf);
    for (const repo::Extent& extent : leaf.extents)
      if (kept[extent.chunk])
        std::fill_n(pages_.begin() + extent.first_page, extent.pages, PageState::kKept);
  }
  RECLO_TRY(fetch(range, leaf, kept, outcome, cancel));
  if (update_) {
    // Of what had to be fetched, and of holes, some is there already.
    for (size_t page = 0; page < kPagesPerSegment; ++page) {
      const ByteSpan is(target_.get() + page * kPageSizeBytes, kPageSizeBytes);
      if (pages_[page] == PageState::kHole && is_all_zero(is)) pages_[page] = PageState::kKept;
      if (pages_[page] == PageState::kFetched &&
          std::memcmp(is.data(), buffer_.get() + page * kPageSizeBytes, kPageSizeBytes) == 0)
        pages_[page] = PageState::kKept;
    }
  }
  RECLO_TRY(write(range, outcome));
  return outcome;
}

Status SegmentRestorer::write(disk::Range range, SegmentOutcome& outcome) {
  const size_t page_count = divide_up(range.size_bytes, kPageSizeBytes);
  if (!update_) {
    // Short holes are written as zeros, with the data around them.
    for (size_t page = 0; page < page_count;) {
      size_t end = page;
      while (end < page_count && pages_[end] == PageState::kHole) ++end;
      if (end - page > 0 && end - page < kHolePagesMin && page > 0 && end < page_count) {
        std::memset(buffer_.get() + page * kPageSizeBytes, 0, (end - page) * kPageSizeBytes);
        std::fill(pages_.begin() + static_cast<ptrdiff_t>(page),
                  pages_.begin() + static_cast<ptrdiff_t>(end), PageState::kFetched);
      }
      page = end + 1;
    }
  }
  const auto kind = [&](size_t page) {
    return pages_[page] == PageState::kDamaged ? PageState::kFetched : pages_[page];
  };
  for (size_t page = 0; page < page_count;) {
    size_t end = page + 1;
    while (end < page_count && kind(end) == kind(page)) ++end;
    const uint64_t from = page * kPageSizeBytes;
    const disk::Range run{range.offset_bytes + from,
                          std::min(end * kPageSizeBytes, range.size_bytes) - from};
    if (kind(page) == PageState::kKept || (kind(page) == PageState::kHole && target_is_zero_)) {
      outcome.skipped_bytes += run.size_bytes;
    } else {
      if (kind(page) == PageState::kHole) {
        RECLO_TRY(sink_.write_zeros(run.offset_bytes, run.size_bytes));
      } else {
        RECLO_TRY(sink_.write_at(run.offset_bytes, {buffer_.get() + from, run.size_bytes}));
      }
      outcome.written_bytes += run.size_bytes;
    }
    page = end;
  }
  return {};
}

Result<SegmentOutcome> SegmentRestorer::restore_hole(disk::Range range, const CancelToken& cancel) {
  SegmentOutcome outcome;
  if (target_is_zero_) {
    outcome.skipped_bytes = range.size_bytes;
    return outcome;
  }
  if (!update_) {
    RECLO_TRY(sink_.write_zeros(range.offset_bytes, range.size_bytes));
    outcome.written_bytes = range.size_bytes;
    return outcome;
  }
  static const repo::Leaf kNothing;
  for (uint64_t at = range.offset_bytes; at < range.end_bytes(); at += kSegmentSizeBytes) {
    RECLO_ASSIGN_OR_RETURN(
        const SegmentOutcome part,
        restore({at, std::min(kSegmentSizeBytes, range.end_bytes() - at)}, kNothing, cancel));
    outcome.written_bytes += part.written_bytes;
    outcome.skipped_bytes += part.skipped_bytes;
  }
  return outcome;
}

}  // namespace reclo::image
