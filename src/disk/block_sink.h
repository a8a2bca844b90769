// A disk that is written by a restore: a block device or a raw image file.
//
// Nothing that is in use is opened: a mounted device, one under swap, LVM or RAID, a disk with such
// a partition, a file that backs a loop device. A new file is sparse and known to read as zeros, so
// that holes cost nothing; an old target keeps its content, so that a restore may fetch only what
// differs.
// Thread rule: read_at, write_at and write_zeros are safe from any thread (for disjoint ranges);
// flush() covers what returned before it; finish() comes last, alone.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/bytes.h"
#include "base/result.h"

namespace reclo::disk {

class BlockSink {
 public:
  virtual ~BlockSink() = default;
  /// The size of the disk that is written: what open_sink() was asked for.
  virtual uint64_t size_bytes() const = 0;
  /// The target is new: every byte that was not written reads as zero.
  virtual bool starts_zeroed() const = 0;
  /// Errors: kInvalidArgument past the end, kNoSpace, kIo, with the path and address named.
  virtual Status write_at(uint64_t offset_bytes, ByteSpan data) = 0;
  /// Makes the range read as zeros, by giving its space back where the target can do that.
  virtual Status write_zeros(uint64_t offset_bytes, uint64_t size_bytes) = 0;
  virtual Status read_at(uint64_t offset_bytes, MutableByteSpan out) = 0;
  /// What was written is on stable storage when this returns.
  virtual Status flush() = 0;
  /// flush(), and lets the system look at the disk's new partitions. Nothing may follow.
  virtual Status finish() = 0;
  /// Bytes that were asked to be written past the end of a smaller, forced target and were not.
  virtual uint64_t dropped_bytes() const = 0;
  virtual std::string path() const = 0;
};

struct SinkOptions {
  /// Overwrites a file of another size, a device that is in use, and a smaller device (its end is
  /// then missing: see dropped_bytes()).
  bool force = false;
};

/// Opens `path` for a disk of `size_bytes`: a block device, an existing file, or a file to be made
/// (0600). Errors: kConflict (in use; another restore writes it), kAlreadyExists (a file of another
/// size), kInvalidArgument (too small, not a disk), kNotFound, kPermissionDenied, kNoSpace.
Result<std::unique_ptr<BlockSink>> open_sink(const std::string& path, uint64_t size_bytes,
                                             const SinkOptions& options = {});

}  // namespace reclo::disk
