// What a server keeps between backups, in STATE/repositories/<repository>/servers/<name>/:
//
//   keys.json       its map key and signing key (mode 0600): enough to write, not to read back
//   identity.json   which machine this server is, and of what it is a copy
//   state.json      the last committed recovery point
//   lock            held while a backup runs
//   session.journal, disk-<n>.tags(.sums, .new), chunks.index, maps/,
//   sessions.known           memories; losing them costs upload
//
// And STATE/repositories/<repository>/pin.json: the public key that was seen first. A repository
// whose public key changes is refused: a storage provider must not be able to have data sealed to a
// key of its own. Thread rule: one thread at a time; one process at a time holds the lock.
#pragma once

#include <optional>
#include <string>

#include "backup/server_identity.h"
#include "os/file.h"
#include "repo/repository.h"

namespace reclo::backup {

struct LastPoint {
  PointId id;
  uint64_t sequence = 0;
  std::string digest;
};

class ServerState {
 public:
  /// Opens or creates the state of `server`, takes its lock, and enrols the server in the
  /// repository when it is new. The keys are on the local disk before machine.json is put, so that
  /// no enrolment is ever without its keys. Errors: kConflict when another backup of this server
  /// runs, the repository's key changed, or the chain is not this machine's (server_identity.h).
  static Result<ServerState> open(const std::string& state_directory,
                                  const repo::Repository& repository, const std::string& server,
                                  const IdentityClaim& claim, const CancelToken& cancel);

  const repo::MachineKeys& keys() const { return keys_; }
  const std::optional<LastPoint>& last_point() const { return last_point_; }
  Status set_last_point(const LastPoint& point);

  std::string path(std::string_view name) const { return os::join_path(folder_, name); }
  std::string tags_path(size_t disk_index) const;
  std::string tag_updates_path(size_t disk_index) const;
  std::string journal_path() const { return path("session.journal"); }

 private:
  ServerState(std::string folder, os::FileLock lock, repo::MachineKeys keys)
      : folder_(std::move(folder)), lock_(std::move(lock)), keys_(std::move(keys)) {}
  Status load_last_point();
  std::string folder_;
  os::FileLock lock_;
  repo::MachineKeys keys_;
  std::optional<LastPoint> last_point_;
};

/// This server's keys for `machine`, when the state folder has them; takes no lock.
std::optional<repo::MachineKeys> find_machine_keys(const std::string& state_directory,
                                                   const RepositoryId& repository,
                                                   const repo::MachineRecord& machine);

/// Refuses a repository whose public key is not the one seen first from this state folder.
Status check_repository_pin(const std::string& state_directory, const repo::Repository& repository);

}  // namespace reclo::backup
