// keys/<slot>.json: the repository's private key, wrapped once for each passphrase and recovery
// code.
//
// Adding or removing a slot never touches data. Losing all slots loses the repository: the last
// slot is not removed.
#pragma once

#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/ids.h"
#include "base/time.h"
#include "crypto/sealing.h"
#include "store/object_store.h"

namespace reclo::repo {

enum class SlotKind { kPassphrase, kRecoveryCode };

struct KeySlot {
  std::string name;  // 16 hex digits; part of the object key
  SlotKind kind = SlotKind::kPassphrase;
  std::string label;  // whose, for people
  WallTime created;
};

/// Wraps `secret` and puts a new slot. `words`: the passphrase or recovery code.
Result<KeySlot> add_key_slot(store::ObjectStore& store, const RepositoryId& repository,
                             const crypto::SecretKey& secret, SlotKind kind, std::string_view label,
                             std::string_view words, const CancelToken& cancel);
/// All slots of this repository, oldest first. Damaged ones are reported through `problems`.
Result<std::vector<KeySlot>> list_key_slots(store::ObjectStore& store,
                                            const RepositoryId& repository,
                                            std::vector<Error>* problems,
                                            const CancelToken& cancel);
/// Whether `object`, stored under `key`, is a key slot of this repository that can be understood.
Status check_key_slot(ByteSpan object, const RepositoryId& repository, std::string_view key);
/// Tries `words` on every slot of its kind. Errors: kUnauthenticated when none opens.
Result<crypto::BoxKeyPair> unlock_key(store::ObjectStore& store, const RepositoryId& repository,
                                      const crypto::PublicKey& public_key, std::string_view words,
                                      const CancelToken& cancel);
/// Errors: kNotFound; kInvalidArgument for the last slot.
Status remove_key_slot(store::ObjectStore& store, const RepositoryId& repository,
                       std::string_view name, const CancelToken& cancel);

}  // namespace reclo::repo
