// A disk that is read for a backup: a block device or an image file of any format QEMU knows.
//
// Thread rule: every method is safe from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/cancel.h"
#include "base/result.h"

namespace reclo::disk {

/// A run of bytes on a disk.
struct Range {
  uint64_t offset_bytes = 0;
  uint64_t size_bytes = 0;
  uint64_t end_bytes() const { return offset_bytes + size_bytes; }
  bool operator==(const Range&) const = default;
};

class BlockSource {
 public:
  virtual ~BlockSource() = default;
  virtual uint64_t size_bytes() const = 0;
  /// Fills `out`. Errors: kIo with the address named (EIO, a device that vanished, shrank or grew).
  virtual Status read_at(uint64_t offset_bytes, MutableByteSpan out) = 0;
  /// A hint that `range` is read next, in pieces: lets the disk begin.
  virtual void will_read(Range) {}
  /// The parts of `range` that may hold data, ascending, merged; the rest is known to read as zeros
  /// (holes of a sparse file, unallocated clusters). A source that cannot tell returns all of it.
  virtual Result<std::vector<Range>> data_ranges(Range range) = 0;
  /// Errors: kIo when the disk has no longer the size that it was opened with.
  virtual Status check_size() const { return {}; }
  /// For people and the recovery point: the path given, and the format found ("block", "raw",
  /// "qcow2").
  virtual std::string path() const = 0;
  virtual std::string format() const = 0;
};

/// Opens a block device or a raw/qcow2/VHD (vpc)/VHDX/VMDK file, read-only. Formats other than raw
/// are read through qemu-nbd over a private Unix socket. The format is found from the file's magic
/// bytes (a raw disk's first sectors can be written by a guest: only well-formed headers count, and
/// a block device is always taken as it is). `format` ("raw", "qcow2", "vpc", "vhdx", "vmdk") says
/// it instead. An image may refer to other files (a backing file, extents) in its own folder only.
/// Errors: kNotFound, kPermissionDenied, kInvalidArgument (not a disk), kConflict (a running
/// machine uses the image), kUnsupported.
Result<std::unique_ptr<BlockSource>> open_source(const std::string& path, const CancelToken& cancel,
                                                 const std::string& format = "");

}  // namespace reclo::disk
