// Every limit of the format and of the programs, in one place, with the relations between them.
// The values in the first group are part of the format (docs/format.md): they never change within a
// format version.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/units.h"

namespace reclo {

// ---- format
inline constexpr uint64_t kPageSizeBytes = 4 * kKiB;
inline constexpr uint64_t kSegmentSizeBytes = 4 * kMiB;
inline constexpr uint32_t kPagesPerSegment = kSegmentSizeBytes / kPageSizeBytes;
inline constexpr uint32_t kMapFanOut = 256;
inline constexpr uint32_t kMapHeightMax = 4;  // 4 MiB × 256^4 = 16 PiB
inline constexpr uint64_t kPackSizeBytesMax = 64 * kMiB;
inline constexpr uint32_t kPackSlotsMax = 65535;
inline constexpr uint32_t kDisksPerServerMax = 64;
inline constexpr uint64_t kDiskSizeBytesMax =
    kSegmentSizeBytes * kMapFanOut * kMapFanOut * kMapFanOut * kMapFanOut;
inline constexpr uint32_t kExtentsPerLeafMax = kPagesPerSegment;
inline constexpr size_t kRecordSizeBytesMax = 4 * kMiB;  // begin, end, machine.json, reclo.json
inline constexpr size_t kNodeSizeBytesMax = 256 * kKiB;  // a map leaf or inner node, decoded
inline constexpr size_t kSessionsMax = 1000000;          // of one machine, what programs handle

// ---- writer's choices
inline constexpr uint64_t kPackSizeBytesTarget = 16 * kMiB;
inline constexpr uint64_t kChunkSizeBytes = 256 * kKiB;  // docs/adr/0002
inline constexpr uint32_t kPagesPerChunk = kChunkSizeBytes / kPageSizeBytes;
inline constexpr uint32_t kExtentsPerLeafBeforeRewrite = 512;  // docs/adr/0005
inline constexpr uint32_t kChunksPerLeafBeforeMerge = 64;

static_assert(kSegmentSizeBytes % kChunkSizeBytes == 0);
static_assert(kChunkSizeBytes % kPageSizeBytes == 0);
static_assert(kPackSizeBytesTarget + kSegmentSizeBytes * 2 <= kPackSizeBytesMax);
static_assert(kExtentsPerLeafBeforeRewrite <= kExtentsPerLeafMax);

}  // namespace reclo
