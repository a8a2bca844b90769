#include "repo/envelope.h"

#include <fmt/format.h>

#include "base/limits.h"
#include "crypto/hash.h"

namespace reclo::repo {
namespace {

crypto::Sha256Digest check_of(Json record, const crypto::SecretKey& repository_secret) {
  record.erase("check");
  const crypto::SecretKey key = crypto::derive_key(repository_secret, "reclo/1 record check", {});
  return crypto::hmac_sha256(key.bytes(), as_bytes(dump_json(record)));
}

}  // namespace

void add_check(Json& record, const crypto::SecretKey& repository_secret) {
  record["check"] = to_base64(check_of(record, repository_secret));
}

Status verify_check(ByteSpan object, const crypto::SecretKey& repository_secret,
                    std::string_view what) {
  RECLO_ASSIGN_OR_RETURN(const Json record, parse_json(as_text(object), what, kRecordSizeBytesMax));
  RECLO_ASSIGN_OR_RETURN_WITH(const Bytes check, json_base64(record, "check"), what);
  if (crypto::equal_constant_time(check, check_of(record, repository_secret))) return {};
  return Error(Code::kCorruption, fmt::format("{}: it was changed after it was written", what));
}

Bytes make_envelope(const Json& payload, const crypto::SigningKeyPair* signer) {
  const std::string text = dump_json(payload);
  Json envelope;
  envelope["payload"] = to_base64(as_bytes(text));
  envelope["signature"] = signer != nullptr ? to_base64(crypto::sign(*signer, as_bytes(text))) : "";
  return to_bytes(envelope.dump() + "\n");
}

Result<Envelope> open_envelope(ByteSpan object, std::string_view what) {
  RECLO_ASSIGN_OR_RETURN(const Json outer, parse_json(as_text(object), what, kRecordSizeBytesMax));
  Envelope envelope;
  RECLO_ASSIGN_OR_RETURN_WITH(envelope.payload_bytes, json_base64(outer, "payload"), what);
  RECLO_ASSIGN_OR_RETURN_WITH(envelope.signature, json_base64(outer, "signature"), what);
  RECLO_ASSIGN_OR_RETURN(envelope.payload,
                         parse_json(as_text(envelope.payload_bytes), what, kRecordSizeBytesMax));
  return envelope;
}

Status check_envelope(const Envelope& envelope, const crypto::PublicKey& signer,
                      std::string_view what) {
  if (crypto::verify_signature(signer, envelope.payload_bytes, envelope.signature)) return {};
  return Error(
      Code::kCorruption,
      fmt::format("{}: its signature is wrong; it was changed after it was written", what));
}

Status check_format_version(const Json& json, std::string_view what) {
  RECLO_ASSIGN_OR_RETURN_WITH(const uint32_t format, json_get<uint32_t>(json, "format"), what);
  if (format != kFormatVersion)
    return Error(
        Code::kUnsupported,
        fmt::format("{} has format version {}; this ReClo knows version {}: please upgrade it",
                    what, format, kFormatVersion));
  return {};
}

Status check_record_header(const Json& payload, const RepositoryId& repository,
                           std::string_view what) {
  RECLO_TRY(check_format_version(payload, what));
  RECLO_ASSIGN_OR_RETURN_WITH(const auto id, json_id<RepositoryId>(payload, "repository"), what);
  if (id != repository)
    return Error(Code::kCorruption,
                 fmt::format("{} belongs to another repository ({})", what, id.hex()));
  return {};
}

Result<WallTime> json_time(const Json& object, std::string_view key) {
  RECLO_ASSIGN_OR_RETURN(const std::string text, json_get<std::string>(object, key));
  auto time = parse_time(text);
  if (!time.ok()) return Error(Code::kCorruption, fmt::format("field '{}' is not a time", key));
  return *time;
}

Result<Bytes> json_base64(const Json& object, std::string_view key, size_t size) {
  RECLO_ASSIGN_OR_RETURN(const std::string text, json_get<std::string>(object, key));
  auto bytes = from_base64(text);
  if (!bytes.ok() || (size != 0 && bytes->size() != size))
    return Error(Code::kCorruption,
                 fmt::format("field '{}' is not base64 of the right length", key));
  return std::move(bytes).value();
}

}  // namespace reclo::repo
