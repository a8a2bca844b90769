// Signed records: {"payload": base64 of JSON text, "signature": base64 Ed25519 over the payload}.
// docs/format.md §3. The signature covers the exact payload bytes, so no canonical JSON is needed.
#pragma once

#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/encoding.h"
#include "base/ids.h"
#include "base/json.h"
#include "base/time.h"
#include "crypto/sealing.h"
#include "crypto/secret.h"

namespace reclo::repo {

/// `signer` may be null for records that nobody vouches for (reader pins).
Bytes make_envelope(const Json& payload, const crypto::SigningKeyPair* signer);

struct Envelope {
  Json payload;
  Bytes payload_bytes;
  Bytes signature;  // empty when unsigned
};
/// Parses without checking the signature. Errors: kCorruption with `what` named.
Result<Envelope> open_envelope(ByteSpan object, std::string_view what);
Status check_envelope(const Envelope& envelope, const crypto::PublicKey& signer,
                      std::string_view what);

/// Common fields of every record: refuses unknown formats (kUnsupported) and other repositories.
Status check_record_header(const Json& payload, const RepositoryId& repository,
                           std::string_view what);

/// Refuses formats that this version does not know (kUnsupported), before anything else is read.
Status check_format_version(const Json& json, std::string_view what);

/// Adds the field "check" to an unsigned record: a MAC under the repository's private key over the
/// record's compact text. Who can unlock the repository can tell whether reclo.json and the key
/// slots are as they were written; without it a damaged recovery-code slot would be noticed only
/// when the code is needed. docs/format.md §3.1.
void add_check(Json& record, const crypto::SecretKey& repository_secret);
/// Errors: kCorruption.
Status verify_check(ByteSpan object, const crypto::SecretKey& repository_secret,
                    std::string_view what);

/// Reads an id field.
template <class IdType>
Result<IdType> json_id(const Json& object, std::string_view key) {
  RECLO_ASSIGN_OR_RETURN(const std::string hex, json_get<std::string>(object, key));
  auto id = IdType::parse(hex);
  if (!id.ok()) return Error(Code::kCorruption, "field '" + std::string(key) + "' is not an id");
  return *id;
}
/// Reads a base64 field of exactly `size` bytes (any size when 0).
Result<Bytes> json_base64(const Json& object, std::string_view key, size_t size = 0);
Result<WallTime> json_time(const Json& object, std::string_view key);

inline constexpr uint32_t kFormatVersion = 1;

}  // namespace reclo::repo
