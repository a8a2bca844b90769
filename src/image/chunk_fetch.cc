#include "image/chunk_fetch.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/log.h"
#include "image/cached_store.h"

namespace reclo::image {
namespace {

// A gap this long is cheaper to read than to skip with another request.
constexpr uint32_t kGapBytesMax = 128 * kKiB;

// The chunk by a read of its own that goes to the store itself.
Status fetch_again(repo::SlotReader& slots, const repo::ChunkRef& chunk, MutableByteSpan out,
                   const CancelToken& cancel) {
  const CacheRefresh refresh;
  return slots.read_chunk(chunk, out, cancel);
}

}  // namespace

std::vector<FetchGroup> plan_fetches(std::span<const repo::ChunkRef> chunks) {
  std::vector<size_t> order(chunks.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return chunks[a].at < chunks[b].at; });
  std::vector<FetchGroup> groups;
  for (const size_t index : order) {
    const repo::SlotAddress& at = chunks[index].at;
    const uint64_t end = uint64_t{at.offset_bytes} + at.stored_bytes;
    if (!groups.empty()) {
      FetchGroup& last = groups.back();
      const uint64_t last_end = last.range.offset_bytes + last.range.size_bytes;
      if (last.pack == at.pack && at.offset_bytes >= last_end &&
          at.offset_bytes - last_end <= kGapBytesMax &&
          end - last.range.offset_bytes <= kFetchSizeBytesMax) {
        last.range.size_bytes = end - last.range.offset_bytes;
        last.chunks.push_back(index);
        continue;
      }
    }
    groups.push_back({at.pack, {at.offset_bytes, at.stored_bytes}, {index}});
  }
  return groups;
}

uint64_t fetch_group(repo::SlotReader& slots, std::span<const repo::ChunkRef> chunks,
                     const FetchGroup& group, const ChunkPlace& place, const ChunkDone& done,
                     const CancelToken& cancel) {
  const auto fetched =
      slots.store().get_range(slots.pack_object_key(group.pack), group.range, cancel);
  uint64_t fetched_bytes = fetched.ok() ? fetched->size() : 0;
  for (const size_t index : group.chunks) {
    const repo::ChunkRef& chunk = chunks[index];
    // Only damage is worth a second look: the store has its own retries for everything else.
    if (!fetched.ok() && fetched.error().code() != Code::kCorruption) {
      done(index, fetched.error());
      continue;
    }
    const MutableByteSpan out = place(index);
    Status status;
    if (fetched.ok()) {
      status = slots.open_chunk(
          chunk,
          ByteSpan(*fetched).subspan(chunk.at.offset_bytes - group.range.offset_bytes,
                                     chunk.at.stored_bytes),
          out, cancel);
    } else {
      status = fetched.error();
    }
    if (!status.ok() && status.error().code() == Code::kCorruption) {
      const std::string first = status.error().message();
      status = fetch_again(slots, chunk, out, cancel);
      if (status.ok()) {
        fetched_bytes += chunk.at.stored_bytes;
        log_warning("{}; fetched again, the stored bytes are good", first);
      }
    }
    done(index, std::move(status));
  }
  return fetched_bytes;
}

}  // namespace reclo::image
