// Writing past the page cache (O_DIRECT), for large data that nobody reads again soon.
//
// It spares a copy, the memory in which the server keeps what it works with, and the wait for
// writeback at the fsync (here 210 MB/s instead of 1.3 GB/s, docs/performance.md). It is never more
// than an attempt: file systems and blocks that refuse leave the rest to ordinary writes, which
// also tell why something fails.
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "os/fd.h"

namespace reclo::os {

/// The open file `fd` once more, for direct writes; not valid where that cannot be done.
Fd reopen_for_direct_writes(const Fd& fd);

/// How many bytes of `data` were written at `offset_bytes`, from its start: whole blocks of
/// kAlignmentBytes only, 0 when the offset or the memory is unaligned or `direct` is not valid.
/// The caller writes the rest the ordinary way. Any thread.
size_t write_directly(const Fd& direct, uint64_t offset_bytes, ByteSpan data);

}  // namespace reclo::os
