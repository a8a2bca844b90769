// Lets libext2fs read a file system from a Readable: no device is opened, nothing can be written.
//
// Thread rule: one thread at a time for one object; different objects are independent.
#pragma once

#include <ext2fs/ext2fs.h>

#include <memory>
#include <optional>

#include "base/cancel.h"
#include "disk/readable.h"

namespace reclo::disk {

struct FreeExt {
  void operator()(ext2_filsys fs) const { ext2fs_free(fs); }  // never writes, unlike ext2fs_close
};
using ExtFs = std::unique_ptr<struct_ext2_filsys, FreeExt>;

/// The reads of one file system: bounded in number, cancellable, through a small window so that
/// neighbouring bitmaps cost one read.
class ExtDevice {
 public:
  ExtDevice(Readable volume, CancelToken cancel)
      : volume_(std::move(volume)), cancel_(std::move(cancel)) {}
  ExtDevice(const ExtDevice&) = delete;
  ExtDevice& operator=(const ExtDevice&) = delete;

  /// Opens the file system; nothing when libext2fs does not accept it. This object must outlive it.
  ExtFs open_file_system();

  /// False when the address is outside, too much was read already, or reading failed.
  bool read(uint64_t offset_bytes, MutableByteSpan out);
  /// Success unless the disk itself failed or the token fired: what is written on it never does.
  Status trouble() const;

 private:
  static constexpr size_t kWindowSizeBytes = size_t{64} << 10;
  static constexpr uint64_t kReadsMax = uint64_t{1} << 23;

  bool read_direct(uint64_t offset_bytes, MutableByteSpan out);

  const Readable volume_;
  const CancelToken cancel_;
  std::optional<Error> error_;
  uint64_t read_count_ = 0;
  Bytes window_;
  uint64_t window_offset_bytes_ = 0;
};

}  // namespace reclo::disk
