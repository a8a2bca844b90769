// A repository: opened by anyone who can reach its store, unlocked by who has a passphrase or
// recovery code. The entry point of floor 3.
//
// Thread rule: const methods are safe from any thread.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "repo/config.h"
#include "repo/key_slots.h"
#include "repo/machine.h"
#include "repo/map_reader.h"
#include "repo/record.h"

namespace reclo::repo {

struct InitResult {
  RepositoryConfig config;
  std::string recovery_code;  // shown once, never stored
};

/// Makes a repository in an empty store. The order of writes makes it safe to stop anywhere: key
/// slots first, reclo.json last; before that there is no repository, and init may be run again.
/// Errors: kAlreadyExists when there is one.
Result<InitResult> init_repository(store::ObjectStore& store, std::string_view passphrase,
                                   const StoreCapabilities& capabilities,
                                   const CancelToken& cancel);

/// One committed recovery point with what the listing needs.
struct Point {
  PointRecord record;
  std::string digest;  // SHA-256 (hex) of its `end` object: what the next point's chain link names
};

struct MachinePoints {
  MachineRecord machine;
  std::vector<Point> points;             // ascending by sequence
  std::vector<SessionId> open_sessions;  // begun, neither committed nor fenced
  std::vector<std::string> warnings;     // gaps in the chain, damaged records: named
};

/// A place where a machine's points do not follow each other as they were written.
struct ChainBreak {
  PointId at;  // the point after the gap
  std::string what;
};
/// `points`: ascending by sequence.
std::vector<ChainBreak> check_chain(const std::vector<Point>& points);

class Repository {
 public:
  /// Reads reclo.json. Errors: kNotFound when the store holds no repository.
  static Result<Repository> open(store::ObjectStore& store, const CancelToken& cancel);

  const RepositoryConfig& config() const { return config_; }
  const RepositoryId& id() const { return config_.id; }
  store::ObjectStore& store() const { return *store_; }

  Result<crypto::BoxKeyPair> unlock(std::string_view words, const CancelToken& cancel) const;
  Result<std::vector<MachineRecord>> machines(std::vector<Error>* problems,
                                              const CancelToken& cancel) const;
  /// All points of a machine. Damaged records become warnings, the rest stays usable.
  Result<MachinePoints> points(const MachineRecord& machine, const CancelToken& cancel) const;
  Result<Point> point(const MachineRecord& machine, const PointId& id,
                      const CancelToken& cancel) const;
  /// The map key of a machine, from its sealed form.
  Result<crypto::SecretKey> map_key(const MachineRecord& machine,
                                    const crypto::BoxKeyPair& box) const;

 private:
  Repository(store::ObjectStore& store, RepositoryConfig config)
      : store_(&store), config_(std::move(config)) {}
  store::ObjectStore* store_;
  RepositoryConfig config_;
};

/// A point with its machine, as found by name.
struct FoundPoint {
  MachineRecord machine;
  Point point;
  /// Damaged and missing records that were met on the way: "latest" may be older than people think.
  std::vector<std::string> warnings;
};

/// Finds the point that `text` names: an id, a unique prefix of at least 4 digits, "latest" or
/// "latest:NAME". Errors: kNotFound, kInvalidArgument when a prefix is ambiguous (candidates
/// named).
Result<FoundPoint> find_point(const Repository& repository, std::string_view text,
                              const CancelToken& cancel);

}  // namespace reclo::repo
