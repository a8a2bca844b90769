#include "disk/block_sink.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <mutex>

#include "base/limits.h"
#include "disk/device_use.h"
#include "disk/raw_source.h"
#include "os/direct_io.h"
#include "os/fd.h"
#include "os/file.h"

namespace reclo::disk {
namespace {

constexpr size_t kZerosSizeBytes = size_t{1} << 20;
constexpr size_t kDirectSizeBytesMin = size_t{256} << 10;

class RawSink final : public BlockSink {
 public:
  RawSink(std::string path, os::Fd fd, uint64_t size_bytes, uint64_t target_size_bytes,
          bool is_device, bool starts_zeroed)
      : path_(std::move(path)),
        fd_(std::move(fd)),
        size_bytes_(size_bytes),
        target_size_bytes_(target_size_bytes),
        is_device_(is_device),
        starts_zeroed_(starts_zeroed),
        direct_fd_(os::reopen_for_direct_writes(fd_)) {}

  uint64_t size_bytes() const override { return size_bytes_; }
  bool starts_zeroed() const override { return starts_zeroed_; }
  Status write_at(uint64_t offset_bytes, ByteSpan data) override;
  Status write_zeros(uint64_t offset_bytes, uint64_t size_bytes) override;
  Status read_at(uint64_t offset_bytes, MutableByteSpan out) override;
  Status flush() override;
  Status finish() override;
  uint64_t dropped_bytes() const override { return dropped_bytes_; }
  std::string path() const override { return path_; }

 private:
  Status check_inside(uint64_t offset_bytes, uint64_t size_bytes) const;
  uint64_t clip(uint64_t offset_bytes, uint64_t size_bytes);
  bool give_back_space(uint64_t offset_bytes, uint64_t size_bytes);
  Status write_zero_bytes(uint64_t offset_bytes, uint64_t size_bytes);

  const std::string path_;
  os::Fd fd_;
  const uint64_t size_bytes_;
  const uint64_t target_size_bytes_;  // smaller only when forced
  const bool is_device_;
  const bool starts_zeroed_;
  // The same file past the page cache; not valid where that cannot be done.
  os::Fd direct_fd_;
  std::atomic<uint64_t> dropped_bytes_ = 0;
  // The kernel lets one thread at a time write to a file; the others spin, a fifth of a restore's
  // CPU. Here they sleep.
  std::mutex file_mutex_;
};

Status RawSink::check_inside(uint64_t offset_bytes, uint64_t size_bytes) const {
  if (offset_bytes <= size_bytes_ && size_bytes <= size_bytes_ - offset_bytes) return {};
  return Error(Code::kInvalidArgument, fmt::format("{}: {} bytes at {} are past its end ({})",
                                                   path_, size_bytes, offset_bytes, size_bytes_));
}

// How much of the range the target has room for; counts the rest.
uint64_t RawSink::clip(uint64_t offset_bytes, uint64_t size_bytes) {
  const uint64_t room = target_size_bytes_ - std::min(target_size_bytes_, offset_bytes);
  const uint64_t kept = std::min(room, size_bytes);
  dropped_bytes_ += size_bytes - kept;
  return kept;
}

Status RawSink::write_at(uint64_t offset_bytes, ByteSpan data) {
  RECLO_TRY(check_inside(offset_bytes, data.size()));
  data = data.first(clip(offset_bytes, data.size()));
  if (data.size() >= kDirectSizeBytesMin) {
    const size_t done = os::write_directly(direct_fd_, offset_bytes, data);
    offset_bytes += done;
    data = data.subspan(done);
  }
  if (data.empty()) return {};
  std::unique_lock lock(file_mutex_, std::defer_lock);
  if (!is_device_) lock.lock();
  RECLO_TRY_WITH(os::write_at(fd_, offset_bytes, data), path_);
  return {};
}

bool RawSink::give_back_space(uint64_t offset_bytes, uint64_t size_bytes) {
  const auto offset = static_cast<off_t>(offset_bytes);
  const auto size = static_cast<off_t>(size_bytes);
  if (::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size) == 0)
    return true;
  if (!is_device_) return false;
  uint64_t range[2] = {offset_bytes, size_bytes};
  return ::ioctl(fd_.get(), BLKZEROOUT, range) == 0;
}

Status RawSink::write_zero_bytes(uint64_t offset_bytes, uint64_t size_bytes) {
  static const Bytes kZeros(kZerosSizeBytes);
  while (size_bytes > 0) {
    const ByteSpan part = ByteSpan(kZeros).first(std::min<uint64_t>(kZeros.size(), size_bytes));
    RECLO_TRY_WITH(os::write_at(fd_, offset_bytes, part), path_);
    offset_bytes += part.size();
    size_bytes -= part.size();
  }
  return {};
}

Status RawSink::write_zeros(uint64_t offset_bytes, uint64_t size_bytes) {
  RECLO_TRY(check_inside(offset_bytes, size_bytes));
  const uint64_t end =
      offset_bytes +
      std::min(size_bytes, target_size_bytes_ - std::min(target_size_bytes_, offset_bytes));
  // Devices zero whole blocks only: the ends of an unaligned range are written.
  const uint64_t first = std::min(round_up(offset_bytes, kPageSizeBytes), end);
  const uint64_t last = std::max(end / kPageSizeBytes * kPageSizeBytes, first);
  RECLO_TRY(write_zero_bytes(offset_bytes, first - offset_bytes));
  if (last > first && !give_back_space(first, last - first))
    RECLO_TRY(write_zero_bytes(first, last - first));
  return write_zero_bytes(last, end - last);
}

Status RawSink::read_at(uint64_t offset_bytes, MutableByteSpan out) {
  RECLO_TRY(check_inside(offset_bytes, out.size()));
  const uint64_t room = target_size_bytes_ - std::min(target_size_bytes_, offset_bytes);
  const uint64_t there = std::min<uint64_t>(room, out.size());
  RECLO_TRY_WITH(os::read_at(fd_, offset_bytes, out.first(there)), path_);
  std::fill(out.begin() + static_cast<ptrdiff_t>(there), out.end(), uint8_t{0});
  return {};
}

Status RawSink::flush() {
  RECLO_TRY_WITH(os::fsync(fd_), path_);
  return {};
}

Status RawSink::finish() {
  RECLO_TRY(flush());
  // Best effort: loop devices and partitions have no table of their own to look at.
  if (direct_fd_.valid()) RECLO_TRY_WITH(direct_fd_.close(), path_);
  if (is_device_) ::ioctl(fd_.get(), BLKRRPART);
  RECLO_TRY_WITH(fd_.close(), path_);
  if (!is_device_) RECLO_TRY(os::fsync_directory(os::parent_path(path_)));
  return {};
}

Status refuse_if_used(const std::string& path, const SinkOptions& options) {
  if (options.force) return {};
  RECLO_ASSIGN_OR_RETURN(const std::optional<std::string> user, who_uses(path));
  if (user)
    return Error(Code::kConflict,
                 fmt::format("{}: writing to it would destroy what is running there (use --force "
                             "only if that is meant)",
                             *user));
  return {};
}

Result<std::unique_ptr<BlockSink>> open_device(const std::string& path, uint64_t size_bytes,
                                               const SinkOptions& options) {
  RECLO_TRY(refuse_if_used(path, options));
  // O_EXCL on a block device: the kernel itself refuses while anybody has claimed it.
  os::Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | (options.force ? 0 : O_EXCL)));
  if (!fd.valid() && errno == EBUSY)
    return Error(Code::kConflict, path + " is in use: unmount it, or end what uses it, first");
  if (!fd.valid()) return Error::from_errno(errno, "open " + path);
  RECLO_ASSIGN_OR_RETURN(const OpenSize target, size_of_open(fd, path));
  if (target.size_bytes < size_bytes && !options.force)
    return Error(Code::kInvalidArgument,
                 fmt::format("{} is too small: it has {}, the disk needs {} ({} bytes more)", path,
                             format_bytes(target.size_bytes), format_bytes(size_bytes),
                             size_bytes - target.size_bytes));
  return std::unique_ptr<BlockSink>(new RawSink(
      path, std::move(fd), size_bytes, std::min(size_bytes, target.size_bytes), true, false));
}

Result<std::unique_ptr<BlockSink>> open_file(const std::string& path, bool is_new,
                                             uint64_t size_bytes, const SinkOptions& options) {
  if (!is_new) RECLO_TRY(refuse_if_used(path, options));
  os::Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | (is_new ? O_CREAT | O_EXCL : 0), 0600));
  if (!fd.valid()) return Error::from_errno(errno, (is_new ? "create " : "open ") + path);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0)
    return Error(Code::kConflict, path + " is being written by another restore");
  RECLO_ASSIGN_OR_RETURN(const OpenSize found, size_of_open(fd, path));
  if (found.size_bytes != 0 && found.size_bytes != size_bytes && !options.force)
    return Error(
        Code::kAlreadyExists,
        fmt::format("{} exists and has {} bytes, the disk has {}: remove it or use --force", path,
                    found.size_bytes, size_bytes));
  if (found.size_bytes != size_bytes &&
      ::ftruncate(fd.get(), static_cast<off_t>(size_bytes)) != 0) {
    const int failure = errno;
    if (is_new) ::unlink(path.c_str());
    return Error::from_errno(failure, fmt::format("make {} {} bytes long", path, size_bytes));
  }
  return std::unique_ptr<BlockSink>(
      new RawSink(path, std::move(fd), size_bytes, size_bytes, false, found.size_bytes == 0));
}

}  // namespace

Result<std::unique_ptr<BlockSink>> open_sink(const std::string& path, uint64_t size_bytes,
                                             const SinkOptions& options) {
  if (size_bytes == 0 || size_bytes > kDiskSizeBytesMax)
    return Error(Code::kInvalidArgument, fmt::format("no disk has {} bytes", size_bytes));
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) {
    if (errno != ENOENT) return Error::from_errno(errno, "stat " + path);
    return open_file(path, true, size_bytes, options);
  }
  if (S_ISBLK(info.st_mode)) return open_device(path, size_bytes, options);
  if (S_ISREG(info.st_mode)) return open_file(path, false, size_bytes, options);
  return Error(Code::kInvalidArgument, path + " is neither a block device nor a file");
}

}  // namespace reclo::disk
