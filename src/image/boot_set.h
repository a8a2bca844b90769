// The boot set: which parts of a disk a machine reads in its first minutes, in order. Recorded at
// each start, fetched first at the next one (of any recovery point: addresses change little).
//
// File: "RCLOBOOT" ‖ version u32 ‖ entry count u32 ‖ disk size u64 ‖ entries {granule index u32} in
// the order of first reading; a granule is 256 KiB. It is a hint: a damaged or missing one costs
// time only.
// Thread rule: every method is safe from any thread.
#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/limits.h"
#include "base/time.h"
#include "disk/block_source.h"

namespace reclo::image {

inline constexpr uint64_t kBootSetGranuleSizeBytes = 256 * kKiB;
inline constexpr size_t kBootSetEntriesMax = 16384;  // 4 GiB

/// In the order of first reading, neighbours merged. Errors: kNotFound, kCorruption, kUnsupported.
Result<std::vector<disk::Range>> load_boot_set(const std::string& path, uint64_t disk_size_bytes);
Result<std::vector<disk::Range>> decode_boot_set(ByteSpan content, uint64_t disk_size_bytes);

class BootSetRecorder {
 public:
  /// Records from the first read on for `window`, then (or at destruction) replaces the file.
  BootSetRecorder(std::string path, uint64_t disk_size_bytes,
                  std::chrono::milliseconds window = std::chrono::seconds(90));
  ~BootSetRecorder();

  void note_read(disk::Range range);
  /// Writes the file now and stops recording.
  Status finish();

 private:
  Status save(const std::vector<uint32_t>& granules) const;

  const std::string path_;
  const uint64_t disk_size_bytes_;
  const std::chrono::milliseconds window_;
  std::atomic<bool> recording_ = true;
  std::mutex mutex_;
  std::optional<Stopwatch> since_first_read_;
  std::vector<bool> seen_;
  std::vector<uint32_t> granules_;
};

}  // namespace reclo::image
