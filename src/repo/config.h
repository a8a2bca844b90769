// reclo.json: what a repository is, and what its store can do. Written last at init: its existence
// is what makes a repository.
#pragma once

#include <string>

#include "base/ids.h"
#include "base/time.h"
#include "crypto/sealing.h"

namespace reclo::repo {

/// What the probe at init found (DESIGN §3.4): shown to people, and read by whoever deletes.
struct StoreCapabilities {
  bool atomic_create = false;  // of many concurrent If-None-Match writers exactly one wins
  bool list_after_put = false;
  bool range_read = false;
  std::string note;  // what the probe had to say, may be empty
  bool safe() const { return atomic_create && list_after_put && range_read; }
};

struct RepositoryConfig {
  RepositoryId id;
  WallTime created;
  crypto::PublicKey public_key{};  // X25519: session keys are sealed to it
  StoreCapabilities store;
};

/// `secret`: the repository's private key, which the record's check is made with.
Bytes encode_config(const RepositoryConfig& config, const crypto::SecretKey& secret);
/// Errors: kCorruption, kUnsupported for a repository of a newer version.
Result<RepositoryConfig> decode_config(ByteSpan object);

}  // namespace reclo::repo
