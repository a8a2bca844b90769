// Signed records: {"payload": base64 of JSON text, "signature": base64 Ed25519 over the payload}.
// docs/format.md §3. The signature covers the exact payload bytes, so no canonical JSON is needed.
#pragma once

#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/encoding.h"
#include "base/ids.h"
#include "base/json.h"
#include "crypto/sealing.h"

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

inline constexpr uint32_t kFormatVersion = 1;

}  // namespace reclo::repo
