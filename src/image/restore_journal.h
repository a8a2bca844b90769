// What a restore has finished, in a file: one bit for each segment, replaced as a whole.
//
// File: "RCLORSTR" ‖ version u32 ‖ disk index u32 ‖ point id ‖ disk size u64 ‖ target u64 ‖
// target was new u8 ‖ bits ‖ SHA-256 of all before.
// Thread rule: every method is safe from any thread.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/limits.h"
#include "disk/block_sink.h"

namespace reclo::image {

struct JournalIdentity {
  PointId point;
  uint32_t disk_index = 0;
  uint64_t disk_size_bytes = 0;
  uint64_t target = 0;  // the file's inode or the device's number: another target begins anew
  bool operator==(const JournalIdentity&) const = default;
};

class RestoreJournal {
 public:
  /// Reads the file if it is there and tells the same restore; else begins anew. An empty path
  /// makes a journal that forgets.
  static RestoreJournal open(const std::string& path, const JournalIdentity& identity,
                             bool target_is_new);
  RestoreJournal(RestoreJournal&& other) noexcept;

  /// Whether an earlier attempt finished the segment.
  bool finished_before(uint64_t segment) const { return before_[segment]; }
  uint64_t finished_before_bytes() const;
  /// Whether the target was new when the first attempt began: its holes are still zero.
  bool target_was_new() const { return target_was_new_; }

  void finish(uint64_t segment);
  /// Flushes `sink`, then makes everything durable that was finished before the call.
  Status save(disk::BlockSink& sink);
  Status remove();

 private:
  RestoreJournal(std::string path, const JournalIdentity& identity);
  bool load();
  Bytes encode(const std::vector<bool>& done) const;

  const std::string path_;
  const JournalIdentity identity_;
  bool target_was_new_ = false;
  std::vector<bool> before_;
  std::mutex mutex_;
  std::vector<bool> done_;
};

}  // namespace reclo::image
