// Whether this machine is the server whose chain it wants to append to: identity.json in the
// server's state folder remembers on which hardware it was enrolled, and of which recovery point it
// is a copy. A recovered copy has the original's disk, its state folder included; it must never
// write to the original's chain, and starts a branch of its own. DESIGN §6.
//
// Only digests of the hardware's numbers are kept. What is not known is not compared: the SMBIOS
// UUID can be read by root only. One thread.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "repo/machine.h"

namespace reclo::backup {

/// Empty: not known.
struct HardwareIdentity {
  std::string product_uuid;  // SMBIOS
  std::string machine_id;    // /etc/machine-id
};

/// A marker says that this machine was recovered.
struct RecoveredCopy {
  std::string server;  // of what; empty when the marker does not tell
  std::string point;   // the recovery point's id in hex, or empty
  std::string found_in;
};

struct IdentityClaim {
  HardwareIdentity hardware;
  std::optional<RecoveredCopy> copy;
  bool branch = false;       // the operator asks for a chain of its own
  bool same_server = false;  // the operator says that only the hardware is another one
};

struct ServerIdentity {
  std::string product_uuid_digest;  // empty: not known
  std::string machine_id_digest;
  std::optional<repo::RecoveredFrom> recovered_from;  // this chain is a branch
  bool operator==(const ServerIdentity&) const = default;
};

inline constexpr size_t kIdentitySizeBytesMax = size_t{64} << 10;

std::string encode_identity(const ServerIdentity& identity);
/// Errors: kCorruption; kUnsupported for a newer version.
Result<ServerIdentity> decode_identity(std::string_view text);

/// What identity.json shall hold. `known`: what it held; nothing when it is not there. `enrolled`:
/// this state folder has the server's keys. Errors: kConflict in words, when the chain is not this
/// machine's to append to.
Result<ServerIdentity> check_identity(const std::string& server,
                                      const std::optional<ServerIdentity>& known, bool enrolled,
                                      const IdentityClaim& claim);

/// "files (recovered from 0123abcd)", or "files (branch)" when no marker tells.
std::string branch_name(const std::string& server, const IdentityClaim& claim);

}  // namespace reclo::backup
