#include "os/direct_io.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>

#include "base/aligned.h"

namespace reclo::os {

Fd reopen_for_direct_writes(const Fd& fd) {
  return Fd(
      ::open(fmt::format("/proc/self/fd/{}", fd.get()).c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC));
}

size_t write_directly(const Fd& direct, uint64_t offset_bytes, ByteSpan data) {
  const auto address = reinterpret_cast<uintptr_t>(data.data());
  if (!direct.valid() || (address | offset_bytes) % kAlignmentBytes != 0) return 0;
  const size_t whole_blocks = data.size() / kAlignmentBytes * kAlignmentBytes;
  size_t done = 0;
  while (done < whole_blocks) {
    const ssize_t put = ::pwrite(direct.get(), data.data() + done, whole_blocks - done,
                                 static_cast<off_t>(offset_bytes + done));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) break;
    // Cut short inside a block: that block is written again as a whole.
    const size_t blocks = static_cast<size_t>(put) / kAlignmentBytes * kAlignmentBytes;
    done += blocks;
    if (blocks != static_cast<size_t>(put)) break;
  }
  return done;
}

}  // namespace reclo::os
