// In which ranges two recovery points' disks differ, by their maps alone: no data is read.
#pragma once

#include <vector>

#include "disk/block_source.h"
#include "repo/map_reader.h"

namespace reclo::image {

/// Ascending, merged, of whole 4 KiB pages (the disk's last one cut short). A missing disk reads as
/// zeros. Pages of equal content may be named when they are stored twice. Any thread.
Result<std::vector<disk::Range>> changed_ranges(repo::MapReader& maps,
                                                const repo::DiskRecord* before,
                                                const repo::DiskRecord* after,
                                                const CancelToken& cancel);

}  // namespace reclo::image
