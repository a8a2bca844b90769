// Fetching chunks from packs with few, large ranged reads.
//
// Chunks that were written together lie together: a segment of a full backup is one run of bytes in
// one pack. Values and free functions; safe from any thread.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "repo/slot_reader.h"
#include "store/object_store.h"

namespace reclo::image {

/// One ranged read and the chunks that lie in it.
struct FetchGroup {
  repo::PackId pack;
  store::ByteRange range;
  std::vector<size_t> chunks;  // indexes into what was planned, ascending by place
};

/// No group is longer than this, so that memory and the loss by a failure stay small.
inline constexpr uint64_t kFetchSizeBytesMax = 6 * kMiB;

/// Puts chunks of one pack that lie close together into one read each; the gaps between them are
/// read too when that is cheaper than another request.
std::vector<FetchGroup> plan_fetches(std::span<const repo::ChunkRef> chunks);

/// Where the plain bytes of chunk `index` go (pages × 4 KiB), asked for just before decoding it.
using ChunkPlace = std::function<MutableByteSpan(size_t index)>;
/// Told once for each chunk of the group, in order, when it is decoded and verified, or why not.
using ChunkDone = std::function<void(size_t index, Status status)>;

/// Fetches, opens and verifies the chunks of one group. A chunk that arrives damaged is fetched
/// once more past every cache (and a warning says so when that helped); its neighbours are not
/// affected. Returns the number of stored bytes fetched.
uint64_t fetch_group(repo::SlotReader& slots, std::span<const repo::ChunkRef> chunks,
                     const FetchGroup& group, const ChunkPlace& place, const ChunkDone& done,
                     const CancelToken& cancel);

}  // namespace reclo::image
