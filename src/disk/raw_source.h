// A block device or a raw image file, read by pread.
//
// Thread rule: safe from any thread. Each read checks that the disk still has the size it was
// opened with: a disk that changes its size under a backup gives no usable recovery point.
#pragma once

#include <memory>

#include "disk/block_source.h"
#include "os/fd.h"

namespace reclo::disk {

class RawSource final : public BlockSource {
 public:
  /// Errors: kNotFound, kPermissionDenied, kInvalidArgument (a folder, a pipe, an empty file).
  static Result<std::unique_ptr<RawSource>> open(const std::string& path);

  uint64_t size_bytes() const override { return size_bytes_; }
  Status read_at(uint64_t offset_bytes, MutableByteSpan out) override;
  void will_read(Range range) override;
  Result<std::vector<Range>> data_ranges(Range range) override;
  Status check_size() const override;
  std::string path() const override { return path_; }
  std::string format() const override { return is_device_ ? "block" : "raw"; }
  bool is_device() const { return is_device_; }

 private:
  RawSource(std::string path, os::Fd fd, uint64_t size_bytes, bool is_device)
      : path_(std::move(path)),
        fd_(std::move(fd)),
        size_bytes_(size_bytes),
        is_device_(is_device) {}

  const std::string path_;
  const os::Fd fd_;
  const uint64_t size_bytes_;
  const bool is_device_;
};

/// The size of an open file or block device. Errors: kInvalidArgument for anything else.
struct OpenSize {
  uint64_t size_bytes = 0;
  bool is_device = false;
};
Result<OpenSize> size_of_open(const os::Fd& fd, const std::string& path);

}  // namespace reclo::disk
