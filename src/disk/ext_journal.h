// The newer copies of ext3/4 metadata blocks that wait in the journal (jbd2).
//
// When a file system was not cleanly unmounted (each snapshot of a running server), mounting it
// replays the journal over the blocks on disk. This walks the log exactly as a replay would, to its
// end, so that a caller can see what any block may become. It is a superset of what a replay does:
// the last, uncommitted transaction counts, and revoked or superseded copies do too.
// Format: the kernel's include/linux/jbd2.h; all integers big-endian.
// Thread rule: one thread at a time.
#pragma once

#include <ext2fs/ext2fs.h>

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "disk/ext_device.h"

namespace reclo::disk {

class ExtJournal {
 public:
  /// Reads the log's structure. When it cannot be understood, `why_not()` says why, and nothing
  /// may be concluded about the file system. A clean journal is understood and has no copies.
  static ExtJournal read(ext2_filsys fs, ExtDevice& device);

  const std::string& why_not() const { return why_not_; }
  bool empty() const { return copies_.empty(); }
  bool has_copy(uint64_t block) const;
  /// Calls `visit` with each copy of `block`, oldest or newest first. False when reading failed.
  bool for_each_copy(uint64_t block, const std::function<void(ByteSpan)>& visit) const;

  static constexpr size_t kJournalBlocksMax = size_t{1} << 21;

 private:
  struct Copy {
    uint64_t target_block = 0;
    uint32_t journal_block = 0;  // its index within the journal
    bool escaped = false;        // its first four bytes were replaced by zeros
  };
  struct Superblock {
    uint32_t block_count = 0;
    uint32_t first = 0;
    uint32_t sequence = 0;
    uint32_t start = 0;
    uint32_t features = 0;
  };

  ExtJournal(ext2_filsys fs, ExtDevice& device) : fs_(fs), device_(&device) {}
  bool map_blocks();
  bool read_superblock(Superblock& out);
  void walk_log(const Superblock& super);
  /// Returns the index of the first block after the descriptor's data.
  uint32_t read_descriptor(ByteSpan block, uint32_t index, const Superblock& super,
                           uint32_t& steps_left);
  bool read_block(uint32_t index, MutableByteSpan out) const;

  ext2_filsys fs_;
  ExtDevice* device_;
  std::string why_not_;
  std::vector<uint64_t> blocks_;  // the journal's blocks, by index
  std::vector<Copy> copies_;      // by target block
};

}  // namespace reclo::disk
