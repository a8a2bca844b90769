// The part of a swap area that a backup may leave out: all but its header page.
// Thread-safe.
#pragma once

#include <string>

#include "disk/range_collector.h"
#include "disk/readable.h"

namespace reclo::disk {

/// Adds it to `out` when the area is an ordinary one; else returns why not. A hibernated machine's
/// memory is kept: without it the machine loses what was open.
Result<std::string> collect_swap_free(const Readable& volume, uint64_t base_bytes,
                                      RangeCollector& out);

}  // namespace reclo::disk
