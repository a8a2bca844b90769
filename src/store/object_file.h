// Writing the bytes of a new object's file, large ones past the page cache: a pack is written once
// and not read again soon.
#pragma once

#include "base/bytes.h"
#include "base/cancel.h"
#include "base/result.h"
#include "os/fd.h"

namespace reclo::store {

/// Writes `content` to the empty file `fd`. It is not on stable storage yet: fsync() follows.
/// File systems that cannot bypass the page cache get ordinary writes. Any thread.
Status write_object_file(const os::Fd& fd, ByteSpan content, const CancelToken& cancel);

}  // namespace reclo::store
