#include "backup/segment_diff.h"

#include <algorithm>
#include <array>
#include <bitset>
#include <optional>

namespace reclo::backup {
namespace {

using PageSet = std::bitset<kPagesPerSegment>;

// A run of zero pages shorter than this, between data, is stored with it: an extent costs more than
// compressed zeros.
constexpr uint32_t kHolePagesMin = 4;

PageSet data_pages_of(const SegmentTags& tags) {
  PageSet pages;
  for (uint32_t p = 0; p < kPagesPerSegment; ++p) pages[p] = !tags[p].is_zero();
  return pages;
}

std::vector<PageRun> runs_of(const PageSet& pages, uint32_t first, uint32_t end) {
  std::vector<PageRun> runs;
  for (uint32_t p = first; p < end; ++p) {
    if (!pages[p]) continue;
    if (!runs.empty() && p == static_cast<uint32_t>(runs.back().first_page + runs.back().pages)) {
      ++runs.back().pages;
    } else {
      runs.push_back({static_cast<uint16_t>(p), 1});
    }
  }
  return runs;
}

ChunkPlan make_plan(std::vector<PageRun> runs) {
  ChunkPlan plan;
  plan.runs = std::move(runs);
  for (const PageRun& run : plan.runs) plan.pages = static_cast<uint16_t>(plan.pages + run.pages);
  return plan;
}

// The data pages of one window, with short holes filled.
ChunkPlan window_plan(const PageSet& data, uint32_t first, uint32_t end) {
  std::vector<PageRun> runs;
  for (const PageRun& run : runs_of(data, first, end)) {
    if (!runs.empty() && run.first_page - (runs.back().first_page + runs.back().pages) <
                             static_cast<int>(kHolePagesMin)) {
      runs.back().pages =
          static_cast<uint16_t>(run.first_page + run.pages - runs.back().first_page);
    } else {
      runs.push_back(run);
    }
  }
  return make_plan(std::move(runs));
}

void add_windows(SegmentDiff& diff, const PageSet& data) {
  for (uint32_t first = 0; first < kPagesPerSegment; first += kPagesPerChunk) {
    ChunkPlan plan = window_plan(data, first, first + kPagesPerChunk);
    if (plan.pages > 0) diff.chunks.push_back(std::move(plan));
  }
}

// Pages that the parent's leaf maps, and those of them that lie in patches: in chunks spread over
// windows, and in those that share a window with a longer chunk of its own.
struct ParentPages {
  PageSet mapped;
  PageSet patched;
};

constexpr int kUnused = -1;
constexpr int kSpread = -2;

// By chunk: the one window that all its extents lie in, or kSpread.
std::vector<int> windows_of_chunks(const repo::Leaf& leaf) {
  std::vector<int> windows(leaf.chunks.size(), kUnused);
  for (const repo::Extent& extent : leaf.extents) {
    const int first = extent.first_page / static_cast<int>(kPagesPerChunk);
    const int last = (extent.first_page + extent.pages - 1) / static_cast<int>(kPagesPerChunk);
    int& window = windows[extent.chunk];
    window = (first == last && (window == kUnused || window == first)) ? first : kSpread;
  }
  return windows;
}

ParentPages pages_of(const repo::Leaf& leaf) {
  const std::vector<int> windows = windows_of_chunks(leaf);
  std::array<std::optional<size_t>, kPagesPerSegment / kPagesPerChunk> longest;
  for (size_t i = 0; i < windows.size(); ++i) {
    if (windows[i] < 0) continue;
    std::optional<size_t>& best = longest[static_cast<size_t>(windows[i])];
    if (!best || leaf.chunks[i].pages > leaf.chunks[*best].pages) best = i;
  }
  ParentPages out;
  for (const repo::Extent& extent : leaf.extents) {
    const int window = windows[extent.chunk];
    const bool patch = window < 0 || longest[static_cast<size_t>(window)] != extent.chunk;
    for (uint32_t i = 0; i < extent.pages; ++i) {
      out.mapped.set(extent.first_page + i);
      if (patch) out.patched.set(extent.first_page + i);
    }
  }
  return out;
}

// The parts of the parent's extents that lie in `pages`.
repo::Leaf keep_pages(const repo::Leaf& parent, const PageSet& pages) {
  repo::Leaf kept;
  kept.chunks = parent.chunks;
  for (const repo::Extent& extent : parent.extents) {
    for (uint32_t i = 0; i < extent.pages; ++i) {
      const uint32_t page = extent.first_page + i;
      if (!pages[page]) continue;
      const bool joins = !kept.extents.empty() && kept.extents.back().chunk == extent.chunk &&
                         i > 0 && pages[page - 1];
      if (joins) {
        ++kept.extents.back().pages;
      } else {
        kept.extents.push_back({static_cast<uint16_t>(page), 1, extent.chunk,
                                static_cast<uint16_t>(extent.chunk_page + i)});
      }
    }
  }
  repo::remove_unused_chunks(kept);
  return kept;
}

size_t run_count(const std::vector<ChunkPlan>& chunks) {
  size_t count = 0;
  for (const ChunkPlan& chunk : chunks) count += chunk.runs.size();
  return count;
}

// Windows of which every data page changed become chunks; the rest becomes one patch.
void add_changes(SegmentDiff& diff, const PageSet& data, PageSet changed) {
  for (uint32_t first = 0; first < kPagesPerSegment; first += kPagesPerChunk) {
    bool all = true;
    for (uint32_t p = first; p < first + kPagesPerChunk && all; ++p) all = !data[p] || changed[p];
    ChunkPlan plan = window_plan(data, first, first + kPagesPerChunk);
    if (!all || plan.pages < kPagesPerChunk / 2) continue;
    diff.chunks.push_back(std::move(plan));
    for (uint32_t p = first; p < first + kPagesPerChunk; ++p) changed.reset(p);
  }
  if (changed.any()) diff.chunks.push_back(make_plan(runs_of(changed, 0, kPagesPerSegment)));
}

}  // namespace

bool same_pages(const SegmentTags& now, const SegmentTags& before) {
  return std::memcmp(now.data(), before.data(), sizeof now) == 0;
}

SegmentDiff diff_segment(const SegmentTags& now, const SegmentTags* before,
                         const repo::Leaf* parent) {
  SegmentDiff diff;
  const PageSet data = data_pages_of(now);
  diff.data_pages = static_cast<uint32_t>(data.count());
  if (before == nullptr || parent == nullptr) {
    add_windows(diff, data);
    return diff;
  }
  const ParentPages old = pages_of(*parent);
  PageSet changed;
  for (uint32_t p = 0; p < kPagesPerSegment; ++p)
    changed[p] = data[p] && (now[p] != (*before)[p] || !old.mapped[p]);
  if ((changed | (old.patched & data)).count() * 2 > data.count()) {
    add_windows(diff, data);
    return diff;
  }
  diff.kept = keep_pages(*parent, data & ~changed);
  if (diff.kept.chunks.size() >= kChunksPerLeafBeforeMerge) {
    changed |= old.patched & data;
    diff.kept = keep_pages(*parent, data & ~changed);
  }
  add_changes(diff, data, changed);
  if (diff.kept.extents.size() + run_count(diff.chunks) > kExtentsPerLeafBeforeRewrite) {
    diff.kept = {};
    diff.chunks.clear();
    add_windows(diff, data);
  }
  return diff;
}

void add_chunk(repo::Leaf& leaf, const repo::ChunkRef& chunk, const std::vector<PageRun>& runs) {
  // The same chunk may serve several places of a segment.
  auto found = std::find(leaf.chunks.begin(), leaf.chunks.end(), chunk);
  if (found == leaf.chunks.end()) {
    leaf.chunks.push_back(chunk);
    found = leaf.chunks.end() - 1;
  }
  const auto index = static_cast<uint16_t>(found - leaf.chunks.begin());
  uint16_t chunk_page = 0;
  for (const PageRun& run : runs) {
    leaf.extents.push_back({run.first_page, run.pages, index, chunk_page});
    chunk_page = static_cast<uint16_t>(chunk_page + run.pages);
  }
}

void finish_leaf(repo::Leaf& leaf) {
  std::sort(
      leaf.extents.begin(), leaf.extents.end(),
      [](const repo::Extent& a, const repo::Extent& b) { return a.first_page < b.first_page; });
  std::vector<repo::Extent> merged;
  for (const repo::Extent& extent : leaf.extents) {
    if (!merged.empty()) {
      repo::Extent& last = merged.back();
      if (last.chunk == extent.chunk && last.first_page + last.pages == extent.first_page &&
          last.chunk_page + last.pages == extent.chunk_page) {
        last.pages = static_cast<uint16_t>(last.pages + extent.pages);
        continue;
      }
    }
    merged.push_back(extent);
  }
  leaf.extents = std::move(merged);
  repo::remove_unused_chunks(leaf);
}

}  // namespace reclo::backup
