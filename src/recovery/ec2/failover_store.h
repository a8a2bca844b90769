// The folders of servers that were failed over to EC2: STATE_DIR/instances/<id>/ec2.json, beside
// those of QEMU's instances (instance.json) and never in one of theirs.
//
// Whoever changes an instance holds its lock; reading needs none (ec2.json is replaced whole).
// Whoever looks for an instance to go on with, and makes one when there is none, holds plan_lock():
// the same command twice at once makes one. Safe from any thread.
#pragma once

#include <string>
#include <vector>

#include "base/cancel.h"
#include "os/file.h"
#include "recovery/ec2/failover_record.h"

namespace reclo::recovery {

class Ec2InstanceStore {
 public:
  explicit Ec2InstanceStore(std::string state_directory);

  /// Gives the record an id and makes its folder.
  Status create(Ec2Instance& record) const;
  Result<Ec2Instance> load(const std::string& id) const;
  Status save(const Ec2Instance& record) const;
  /// All, oldest first. An unreadable one is an error that names it.
  Result<std::vector<Ec2Instance>> list() const;
  /// The id that a user's word means: an id, a unique prefix of one, or a name. Nothing: none of
  /// these. Errors: kInvalidArgument (ambiguous).
  Result<std::optional<std::string>> find(const std::string& reference) const;
  /// Removes the folder, the record last.
  Status remove(const Ec2Instance& record) const;

  /// Errors: kConflict when another command works on this instance.
  Result<os::FileLock> lock(const std::string& id) const;
  Result<os::FileLock> plan_lock(const CancelToken& cancel) const;
  /// For what is needed while the failover goes on (digests, a VHD).
  std::string folder(const std::string& id) const;
  const std::string& state_directory() const { return state_directory_; }

 private:
  std::string state_directory_;
  std::string root_;
};

}  // namespace reclo::recovery
