// The folders of ways home: STATE_DIR/failbacks/<id>/ with failback.json, lock, restore-N.journal.
// Who changes a failback holds its lock; reading needs none (the record is replaced as a whole).
// Safe from any thread.
#pragma once

#include <string>
#include <vector>

#include "os/file.h"
#include "recovery/failback/failback_record.h"

namespace reclo::recovery {

class FailbackStore {
 public:
  explicit FailbackStore(std::string state_directory)
      : state_directory_(std::move(state_directory)) {}

  /// Gives the record an id and writes it.
  Status create(FailbackRecord& record) const;
  Status save(const FailbackRecord& record) const;
  Result<FailbackRecord> load(const std::string& id) const;
  /// All, oldest first. An unreadable one is an error that names it.
  Result<std::vector<FailbackRecord>> list() const;
  /// The one that is under way for an instance, if any.
  Result<std::optional<FailbackRecord>> of_instance(const std::string& instance) const;
  /// By id, a unique prefix of one, or its instance; empty: the only one under way.
  /// Errors: kNotFound, kInvalidArgument (ambiguous).
  Result<FailbackRecord> find(const std::string& reference) const;
  /// Errors: kConflict while another command works on it.
  Result<os::FileLock> lock(const std::string& id) const;
  std::string path(const std::string& id, std::string_view name) const;

 private:
  std::string root() const { return os::join_path(state_directory_, "failbacks"); }
  const std::string state_directory_;
};

}  // namespace reclo::recovery
