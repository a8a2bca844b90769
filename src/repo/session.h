// Writing a recovery point: the writer's half of the commit protocol (DESIGN §3.4).
//
//   begin ──W1 put begin with pins──► W2 check pins for tombstones ──W3 upload packs──► W4 put end
//                                                                              (the commit point)
// Invariants:
//  1. `begin` is stored before any pin is checked, and every pin is checked before anything refers
//  to
//     it: a collector either sees the pin or has put its tombstone before, which W2 sees.
//  2. All packs that a point refers to are stored before its `end` is put.
//  3. `end` is put with If-None-Match: commit and fence exclude each other. A lost answer is
//  resolved
//     by the store, which reads back and compares.
//  4. After the first failed upload nothing is committed: the session repeats that upload's error,
//     so that whichever thread is heard first tells the true cause.
//  5. A run's number is chosen so that no pack id is ever used twice (RunFloor in backup/journal).
// Thread rule: upload() from any thread; everything else from one.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>

#include "repo/pack.h"
#include "repo/repository.h"

namespace reclo::repo {

struct SessionOptions {
  std::vector<PointId> pins;
  /// Continue this session (its `begin` is stored, it has no `end`) with a run number that was
  /// never used before.
  std::optional<SessionId> resume;
  uint32_t run = 0;
};

class SessionWriter {
 public:
  /// Draws the run's data key, puts `begin` (unless resuming) and checks the pins.
  /// Errors: kConflict when a pin has a tombstone or the resumed session was ended meanwhile.
  static Result<std::unique_ptr<SessionWriter>> begin(const Repository& repository,
                                                      const MachineKeys& keys,
                                                      const SessionOptions& options,
                                                      const CancelToken& cancel);

  const SessionId& id() const { return id_; }
  WallTime started() const { return started_; }
  PackBuilder new_pack(PackKind kind);
  /// Stores a pack.
  Status upload(const SealedPack& pack, const CancelToken& cancel);
  /// Signs and puts `end`. Fills in machine, id and server name. Errors: kConflict when the session
  /// was fenced: start a new one from the parent.
  Result<Point> commit(PointRecord record, const CancelToken& cancel);

 private:
  SessionWriter(const Repository& repository, const MachineKeys& keys,
                const SessionOptions& options);
  Status check_pins(const std::vector<PointId>& pins, const CancelToken& cancel) const;
  /// The error of the first upload or commit that failed.
  Status failure() const;
  Error fail(Error error);

  const Repository& repository_;
  const MachineKeys& keys_;
  SessionId id_;
  const uint32_t run_;
  WallTime started_;
  crypto::SecretKey data_key_;
  Bytes sealed_data_key_;
  std::atomic<uint32_t> next_pack_ = 0;
  mutable std::mutex mutex_;
  std::optional<Error> failure_;  // guarded by mutex_
};

/// Pins a point for as long as something reads it lazily; put `end` when done.
Result<SessionId> begin_reader_session(const Repository& repository, const MachineId& machine,
                                       const PointId& point, const CancelToken& cancel);
Status end_reader_session(const Repository& repository, const MachineId& machine,
                          const SessionId& session, const CancelToken& cancel);

}  // namespace reclo::repo
