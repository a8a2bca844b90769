// A server's enrolment: the public record in the repository, and the keys that stay on the server.
//
// machine.json is self-signed: it proves who may sign recovery points of this machine id, not that
// the machine is ours. A restoring side remembers the fingerprint it saw first (docs/format.md §8).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/ids.h"
#include "base/time.h"
#include "crypto/sealing.h"
#include "store/object_store.h"

namespace reclo::repo {

/// Of which recovery point a branch's server is a copy; both are empty when nobody could tell.
struct RecoveredFrom {
  std::string server;
  std::string point;  // its id in hex
  bool operator==(const RecoveredFrom&) const = default;
};

struct MachineRecord {
  MachineId id;
  std::string name;
  WallTime created;
  crypto::PublicKey signing_key{};
  Bytes sealed_map_key;                         // to the repository's public key
  std::optional<RecoveredFrom> recovered_from;  // it is a branch
};

/// What a server keeps: enough to write and to read maps, not to read data.
struct MachineKeys {
  MachineId id;
  std::string name;
  crypto::SecretKey map_key;
  crypto::SigningKeyPair signing;
};

MachineKeys make_machine_keys(std::string_view name);
/// Puts machine.json. `recovered_from`: the server is a branch.
Status enrol_machine(store::ObjectStore& store, const RepositoryId& repository,
                     const crypto::PublicKey& repository_key, const MachineKeys& keys,
                     const CancelToken& cancel,
                     const std::optional<RecoveredFrom>& recovered_from = std::nullopt);
Result<MachineRecord> load_machine(store::ObjectStore& store, const RepositoryId& repository,
                                   const MachineId& machine, const CancelToken& cancel);
/// Every machine of the repository. Damaged records go to `problems`.
Result<std::vector<MachineRecord>> list_machines(store::ObjectStore& store,
                                                 const RepositoryId& repository,
                                                 std::vector<Error>* problems,
                                                 const CancelToken& cancel);

/// For the server's own state folder: a text with secrets in it; store it with mode 0600.
Bytes encode_machine_keys(const MachineKeys& keys, const RepositoryId& repository);
Result<MachineKeys> decode_machine_keys(ByteSpan text, const RepositoryId& repository);

/// {"server","point"}, as in machine.json and in the server's own state.
nlohmann::json encode_recovered_from(const RecoveredFrom& from);
/// Errors: kCorruption.
Result<RecoveredFrom> decode_recovered_from(const nlohmann::json& json);

/// Server names: 1 to 100 characters, no control characters, no slash, not "." or "..".
Status check_server_name(std::string_view name);

}  // namespace reclo::repo
