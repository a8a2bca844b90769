// The free blocks of an ext2, ext3 or ext4 file system that is not mounted here.
//
// A block may be left out of a backup only if no file system that this image can become holds data
// in it. That is the on-disk bitmap's word for a cleanly unmounted file system. For one that was in
// use when the image was taken (needs_recovery), mounting it replays the journal first; the rule
// then is: a block is free only if it is free on disk *and* in every copy of its bitmap in the log.
// Why that is enough: the bitmap after the replay is the on-disk one or one of those copies, and
// whatever the replay writes, it writes to blocks that this bitmap counts as used. Groups that are
// still "uninitialised" (their bitmap was never written) count as such only if every copy of their
// descriptor in the log agrees. Where a checksum is wrong the group is kept whole. Without a
// journal an unclean file system has nothing that could be trusted, and one with recorded errors
// neither.
//
// Thread rule: one thread at a time for one volume; independent otherwise.
#pragma once

#include <string>

#include "base/cancel.h"
#include "disk/range_collector.h"
#include "disk/readable.h"

namespace reclo::disk {

/// Adds the free runs of the file system in `volume` (which starts at `base_bytes` of the disk) to
/// `out`. Memory: the group descriptors (at most kExtDescriptorsSizeBytesMax) and one group's
/// bitmap. Returns a note for people when some or all could not be judged, else "".
/// Errors: reading failed, or the token fired; never because of what is on the disk.
Result<std::string> collect_ext_free(const Readable& volume, uint64_t base_bytes,
                                     RangeCollector& out, const CancelToken& cancel);

inline constexpr uint64_t kExtDescriptorsSizeBytesMax = 32 * kMiB;

}  // namespace reclo::disk
