#include "disk/raw_source.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "os/file.h"

namespace reclo::disk {

Result<OpenSize> size_of_open(const os::Fd& fd, const std::string& path) {
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return Error::from_errno(errno, "stat " + path);
  if (S_ISREG(info.st_mode)) return OpenSize{static_cast<uint64_t>(info.st_size), false};
  if (!S_ISBLK(info.st_mode))
    return Error(Code::kInvalidArgument, path + " is neither a block device nor a file");
  uint64_t size_bytes = 0;
  if (::ioctl(fd.get(), BLKGETSIZE64, &size_bytes) != 0)
    return Error::from_errno(errno, "ask the size of " + path);
  return OpenSize{size_bytes, true};
}

Result<std::unique_ptr<RawSource>> RawSource::open(const std::string& path) {
  // O_NONBLOCK: opening a pipe by mistake must not hang; it means nothing for files and disks.
  os::Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return Error::from_errno(errno, "open " + path);
  RECLO_ASSIGN_OR_RETURN(const OpenSize size, size_of_open(fd, path));
  if (size.size_bytes == 0)
    return Error(Code::kInvalidArgument, path + " is empty: there is no disk to back up");
  // A hint only: doubles the kernel's read-ahead.
  ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
  return std::unique_ptr<RawSource>(
      new RawSource(path, std::move(fd), size.size_bytes, size.is_device));
}

Status RawSource::check_size() const {
  RECLO_ASSIGN_OR_RETURN(const OpenSize now, size_of_open(fd_, path_));
  if (now.size_bytes == size_bytes_) return {};
  return Error(
      Code::kIo,
      fmt::format("{} {} from {} to {} bytes while it was read: run the backup again", path_,
                  now.size_bytes < size_bytes_ ? "shrank" : "grew", size_bytes_, now.size_bytes));
}

Status RawSource::read_at(uint64_t offset_bytes, MutableByteSpan out) {
  if (offset_bytes > size_bytes_ || out.size() > size_bytes_ - offset_bytes)
    return Error(Code::kInvalidArgument, fmt::format("{}: {} bytes at {} are past its end ({})",
                                                     path_, out.size(), offset_bytes, size_bytes_));
  const Status got = os::read_at(fd_, offset_bytes, out);
  // A changed size tells more than the read that failed because of it.
  const Status same_size = check_size();
  if (got.ok() || !same_size.ok()) return same_size;
  return Error(got.error()).with(path_);
}

void RawSource::will_read(Range range) {
  ::posix_fadvise(fd_.get(), static_cast<off_t>(range.offset_bytes),
                  static_cast<off_t>(range.size_bytes), POSIX_FADV_WILLNEED);
}

Result<std::vector<Range>> RawSource::data_ranges(Range range) {
  const uint64_t end = std::min(range.end_bytes(), size_bytes_);
  std::vector<Range> out;
  uint64_t at = range.offset_bytes;
  if (is_device_) {
    if (at < end) out.push_back({at, end - at});
    return out;
  }
  while (at < end) {
    const off_t data = ::lseek(fd_.get(), static_cast<off_t>(at), SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;  // only a hole is left
    if (data < 0) {                         // the file system cannot tell
      out.push_back({at, end - at});
      break;
    }
    const auto start = static_cast<uint64_t>(data);
    if (start >= end) break;
    const off_t hole = ::lseek(fd_.get(), data, SEEK_HOLE);
    const uint64_t stop = hole > data ? std::min(static_cast<uint64_t>(hole), end) : end;
    if (!out.empty() && out.back().end_bytes() == start) {
      out.back().size_bytes += stop - start;
    } else {
      out.push_back({start, stop - start});
    }
    at = stop;
  }
  // A file that shrank looks like a hole: do not let that pass for zeros.
  RECLO_TRY(check_size());
  return out;
}

}  // namespace reclo::disk
