#include "backup/server_identity.h"

#include <fmt/format.h>

#include "base/encoding.h"
#include "base/json.h"
#include "base/record_error.h"
#include "crypto/hash.h"

namespace reclo::backup {
namespace {

constexpr uint32_t kIdentityVersion = 1;
constexpr size_t kDigestDigits = 32;
constexpr size_t kShortDigits = 8;

std::string digest_of(std::string_view kind, const std::string& value) {
  if (value.empty()) return "";
  const std::string text = fmt::format("reclo identity/{}/{}", kind, value);
  return to_hex(crypto::sha256(as_bytes(text))).substr(0, kDigestDigits);
}

bool is_digest(const std::string& text) {
  return text.empty() || (text.size() == kDigestDigits &&
                          text.find_first_not_of("0123456789abcdef") == std::string::npos);
}

Result<ServerIdentity> decode_fields(const Json& json) {
  RECLO_ASSIGN_OR_RETURN(const uint32_t version, json_get<uint32_t>(json, "version"));
  if (version != kIdentityVersion)
    return Error(Code::kUnsupported, fmt::format("it is of version {}, this program knows {}",
                                                 version, kIdentityVersion));
  ServerIdentity out;
  RECLO_ASSIGN_OR_RETURN(out.product_uuid_digest, json_get<std::string>(json, "product_uuid"));
  RECLO_ASSIGN_OR_RETURN(out.machine_id_digest, json_get<std::string>(json, "machine_id"));
  if (!is_digest(out.product_uuid_digest) || !is_digest(out.machine_id_digest))
    return Error(Code::kCorruption, "a digest is none");
  const Json* const from = detail::json_find(json, "recovered_from");
  if (from != nullptr && !from->is_null()) {
    RECLO_ASSIGN_OR_RETURN(out.recovered_from, repo::decode_recovered_from(*from));
  }
  return out;
}

bool differs(const std::string& known, const std::string& now) {
  return !known.empty() && !now.empty() && known != now;
}

std::string describe_copy(const RecoveredCopy& copy) {
  const std::string what = copy.server.empty()
                               ? "a recovered server"
                               : fmt::format("'{}' as recovered from point {}", copy.server,
                                             copy.point.substr(0, kShortDigits));
  return fmt::format("this machine is {} ({} says so)", what, copy.found_in);
}

bool is_branch_of(const std::optional<ServerIdentity>& known, const RecoveredCopy& copy) {
  return known && known->recovered_from && known->recovered_from->server == copy.server &&
         known->recovered_from->point == copy.point;
}

// What the operator can do, besides nothing.
std::string advice(const std::string& server, const IdentityClaim& claim) {
  return fmt::format(
      "the chain of '{}' belongs to the original, and nothing was written to it. To back this "
      "machine up in a chain of its own: --branch auto (it is named '{}'), or --branch NAME",
      server, branch_name(server, claim));
}

}  // namespace

std::string encode_identity(const ServerIdentity& identity) {
  const Json json = {{"version", kIdentityVersion},
                     {"product_uuid", identity.product_uuid_digest},
                     {"machine_id", identity.machine_id_digest},
                     {"recovered_from", identity.recovered_from
                                            ? repo::encode_recovered_from(*identity.recovered_from)
                                            : Json(nullptr)}};
  return dump_json(json, 1) + "\n";
}

Result<ServerIdentity> decode_identity(std::string_view text) {
  RECLO_ASSIGN_OR_RETURN(const Json json,
                         parse_json(text, "the server's identity", kIdentitySizeBytesMax));
  return name_unusable(decode_fields(json), "the server's identity cannot be read");
}

Result<ServerIdentity> check_identity(const std::string& server,
                                      const std::optional<ServerIdentity>& known, bool enrolled,
                                      const IdentityClaim& claim) {
  ServerIdentity now = known.value_or(ServerIdentity());
  const std::string uuid = digest_of("product-uuid", claim.hardware.product_uuid);
  const std::string machine_id = digest_of("machine-id", claim.hardware.machine_id);
  if (claim.copy && !is_branch_of(known, *claim.copy)) {
    if (!claim.branch)
      return Error(Code::kConflict, describe_copy(*claim.copy) + ": " + advice(server, claim));
    if (enrolled)
      return Error(Code::kConflict,
                   fmt::format("'{}' is enrolled here already, as another chain than that of {}: "
                               "give --branch another name",
                               server, describe_copy(*claim.copy)));
  }
  const bool other_hardware =
      differs(now.product_uuid_digest, uuid) || differs(now.machine_id_digest, machine_id);
  if (other_hardware && !claim.same_server)
    return Error(Code::kConflict,
                 fmt::format("this is not the machine that '{}' was enrolled on ({}): {}. If only "
                             "its hardware was replaced, or its system installed anew: "
                             "--same-server",
                             server,
                             differs(now.product_uuid_digest, uuid) ? "another SMBIOS UUID"
                                                                    : "another /etc/machine-id",
                             advice(server, claim)));
  if (!uuid.empty()) now.product_uuid_digest = uuid;
  if (!machine_id.empty()) now.machine_id_digest = machine_id;
  if (claim.branch && !enrolled) {
    const RecoveredCopy copy = claim.copy.value_or(RecoveredCopy());
    now.recovered_from = repo::RecoveredFrom{copy.server, copy.point};
  }
  return now;
}

std::string branch_name(const std::string& server, const IdentityClaim& claim) {
  constexpr size_t kNameSizeMax = 100;
  const std::string point = claim.copy ? claim.copy->point.substr(0, kShortDigits) : "";
  const std::string suffix =
      point.empty() ? " (branch)" : fmt::format(" (recovered from {})", point);
  return server.substr(0, kNameSizeMax - suffix.size()) + suffix;
}

}  // namespace reclo::backup
