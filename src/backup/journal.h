// What a backup has already done, for the run that continues it after a crash: the session, its
// runs, and every chunk whose pack is stored.
//
// Append-only; each record carries a checksum; reading stops at the first damaged or cut-off
// record, which loses only the reuse of what came after. Order of writes: the run number is on disk
// (fsynced) before the run draws its first pack id (session.h, invariant 5); a chunk is appended
// only after its pack's upload succeeded. Chunk records are not fsynced one by one: losing some
// costs upload. Thread rule: append_pack() is safe from any thread; the rest from one.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "os/file.h"
#include "repo/pack.h"

namespace reclo::backup {

struct JournaledChunk {
  repo::ChunkRef chunk;
  uint16_t disk_index = 0;
  uint32_t segment_index = 0;
};

struct JournalHeader {
  SessionId session;
  std::optional<PointId> parent;
  std::string disks;  // names and sizes: a resumed session must back up the same disks
  bool operator==(const JournalHeader&) const = default;
};

struct JournalContent {
  JournalHeader header;
  uint32_t runs = 0;  // how many were started
  std::vector<JournaledChunk> chunks;
};

class Journal {
 public:
  /// What `path` holds, or nothing when there is no usable journal.
  static std::optional<JournalContent> load(const std::string& path);
  /// Starts a journal for a new session.
  static Result<std::unique_ptr<Journal>> create(const std::string& path,
                                                 const JournalHeader& header);
  /// Continues the journal of an interrupted session with one more run, recorded durably.
  static Result<std::unique_ptr<Journal>> resume(const std::string& path,
                                                 const JournalContent& content);

  uint32_t run() const { return run_; }
  /// The chunks of a stored pack.
  Status append_pack(const std::vector<JournaledChunk>& chunks);

 private:
  Journal(os::Fd fd, uint32_t run) : fd_(std::move(fd)), run_(run) {}
  std::mutex mutex_;
  os::Fd fd_;
  const uint32_t run_;
};

}  // namespace reclo::backup
