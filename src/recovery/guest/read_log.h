// Which ranges of a disk were read, from the log of nbdkit's log filter. Any thread.
#pragma once

#include <string_view>
#include <vector>

#include "disk/block_source.h"

namespace reclo::recovery {

/// Adds the reads of a part of the log (whole lines) to `ranges`, in whole pages, unsorted.
void add_reads(std::string_view log, std::vector<disk::Range>& ranges);
/// Ascending and merged, none past `size_bytes`.
std::vector<disk::Range> merge_ranges(std::vector<disk::Range> ranges, uint64_t size_bytes);
/// Whether any of `a` touches any of `b`; both ascending and merged.
bool ranges_overlap(const std::vector<disk::Range>& a, const std::vector<disk::Range>& b);

}  // namespace reclo::recovery
