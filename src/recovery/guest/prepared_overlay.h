// What a preparation changed on a server's disks: one file, sealed, that is laid over the recovery
// point whenever it is recovered elsewhere.
//
//   "RECLOPRE" ‖ u32 version ‖ u32 0 ‖ salt (32)       the head, associated data of all that
//   follows frame 1 … n    runs of changed pages, at most 256 KiB each, AES-256-GCM, counter = its
//   number record         JSON: what was prepared for what, the report, the runs, what of the point
//   was
//                  read; counter 0
//   u64 size of the sealed record ‖ "RECLOPRE"
//
// It holds the server's data in the clear before sealing: the key is derived from the repository's
// unlocked key and the salt, so whoever cannot read the repository cannot read this. Written under
// a temporary name, fsynced and renamed: it is whole or not there.
// Thread rule: PreparedOverlay is safe from any thread.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/ids.h"
#include "crypto/aead.h"
#include "disk/block_source.h"
#include "os/fd.h"
#include "recovery/guest/fix.h"

namespace reclo::recovery {

inline constexpr size_t kPreparedFrameSizeBytes = 256 * 1024;
inline constexpr uint64_t kPreparedSizeBytesMax = uint64_t{8} << 30;

struct PreparedRun {
  uint32_t disk = 0;
  disk::Range range;  // of whole pages, but for the disk's last one
  bool operator==(const PreparedRun&) const = default;
};

struct PreparedRecord {
  std::string id;       // of this overlay, in hex
  std::string point;    // what it was made from
  std::string target;   // "ec2", "qemu"
  std::string options;  // a hash over what else was asked for
  std::string program;  // the version that made it
  std::string made;
  std::string system;
  std::vector<uint64_t> disk_sizes_bytes;
  std::vector<FixReport> fixes;
  std::vector<std::string> notes;
  std::string verdict;  // empty: bootable; else why not
  std::vector<PreparedRun> runs;
  std::vector<PreparedRun> reads;  // what of the point the preparation depended on
  bool operator==(const PreparedRecord&) const = default;
};

/// Errors: kCorruption, kUnsupported.
std::string encode_prepared(const PreparedRecord& record);
Result<PreparedRecord> decode_prepared(std::string_view text);

class PreparedWriter {
 public:
  static Result<PreparedWriter> create(const std::string& path, const crypto::SecretKey& box);
  /// The id that the file will have.
  const std::string& id() const { return id_; }
  /// At most kPreparedFrameSizeBytes; runs of one disk ascend and do not overlap.
  Status add(uint32_t disk, uint64_t offset_bytes, ByteSpan data);
  /// Fills in id and runs, writes the record and gives the file its name.
  Status finish(PreparedRecord& record);

 private:
  PreparedWriter(std::string path, std::string unfinished, os::Fd fd, Bytes head,
                 crypto::Aead aead);
  std::string path_;
  std::string unfinished_;
  std::string id_;
  os::Fd fd_;
  Bytes head_;
  crypto::Aead aead_;
  std::vector<PreparedRun> runs_;
  uint64_t size_bytes_ = 0;
};

class PreparedOverlay {
 public:
  /// Errors: kNotFound, kCorruption (damaged, or sealed for another repository), kUnsupported.
  static Result<std::unique_ptr<PreparedOverlay>> open(const std::string& path,
                                                       const crypto::SecretKey& box);
  const PreparedRecord& record() const { return record_; }
  /// Where it changes a disk: ascending, merged.
  std::vector<disk::Range> ranges(uint32_t disk) const;
  /// Lays what it holds of [offset, offset + out.size()) over `out`, which holds the point's bytes.
  Status read(uint32_t disk, uint64_t offset_bytes, MutableByteSpan out) const;
  /// Writes what it holds of a disk over a restored one (a raw file or a device), and flushes it.
  /// Repeating it is safe. Errors: kInvalidArgument for a disk of another size.
  Status apply_to(uint32_t disk, const std::string& path, const CancelToken& cancel) const;

 private:
  PreparedOverlay(os::Fd fd, Bytes head, crypto::Aead aead)
      : fd_(std::move(fd)), head_(std::move(head)), aead_(std::move(aead)) {}
  Result<Bytes> frame(size_t index) const;

  os::Fd fd_;
  Bytes head_;
  mutable std::mutex lock_;
  mutable crypto::Aead aead_;  // under lock_
  PreparedRecord record_;
  std::vector<uint64_t> frame_offsets_;
};

}  // namespace reclo::recovery
