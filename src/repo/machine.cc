#include "repo/machine.h"

#include <fmt/format.h>

#include "base/limits.h"
#include "os/random.h"
#include "repo/envelope.h"
#include "repo/layout.h"

namespace reclo::repo {
namespace {

constexpr size_t kSealedKeySize = 80;
constexpr size_t kMachinesMax = 100000;

}  // namespace

MachineKeys make_machine_keys(std::string_view name) {
  MachineKeys keys;
  keys.id = os::random_id<MachineId>();
  keys.name = name;
  keys.map_key = crypto::SecretKey::random();
  keys.signing = crypto::make_signing_key_pair();
  return keys;
}

Status enrol_machine(store::ObjectStore& store, const RepositoryId& repository,
                     const crypto::PublicKey& repository_key, const MachineKeys& keys,
                     const CancelToken& cancel,
                     const std::optional<RecoveredFrom>& recovered_from) {
  Json payload;
  payload["format"] = kFormatVersion;
  payload["repository"] = repository.hex();
  payload["machine"] = keys.id.hex();
  payload["name"] = keys.name;
  payload["created"] = format_time(wall_now());
  payload["signing_key"] = to_base64(keys.signing.public_key);
  payload["sealed_map_key"] = to_base64(crypto::seal_to(repository_key, keys.map_key.bytes()));
  if (recovered_from) payload["recovered_from"] = encode_recovered_from(*recovered_from);
  RECLO_TRY_WITH(store.put_if_absent(layout::machine_record(keys.id),
                                     make_envelope(payload, &keys.signing), cancel),
                 "enrolling this server");
  return {};
}

Result<MachineRecord> load_machine(store::ObjectStore& store, const RepositoryId& repository,
                                   const MachineId& machine, const CancelToken& cancel) {
  const std::string key = layout::machine_record(machine);
  RECLO_ASSIGN_OR_RETURN(const Bytes object, store.get(key, kRecordSizeBytesMax, cancel));
  RECLO_ASSIGN_OR_RETURN(const Envelope envelope, open_envelope(object, key));
  RECLO_TRY(check_record_header(envelope.payload, repository, key));
  MachineRecord record;
  RECLO_ASSIGN_OR_RETURN_WITH(record.id, json_id<MachineId>(envelope.payload, "machine"), key);
  if (record.id != machine)
    return Error(Code::kCorruption, key + " describes another machine: objects were swapped");
  RECLO_ASSIGN_OR_RETURN_WITH(record.name, json_get<std::string>(envelope.payload, "name"), key);
  if (!check_server_name(record.name).ok())
    return Error(Code::kCorruption, key + ": the server's name in it is none");
  RECLO_ASSIGN_OR_RETURN_WITH(record.created, json_time(envelope.payload, "created"), key);
  RECLO_ASSIGN_OR_RETURN_WITH(const Bytes signing_key,
                              json_base64(envelope.payload, "signing_key", 32), key);
  std::copy(signing_key.begin(), signing_key.end(), record.signing_key.begin());
  RECLO_ASSIGN_OR_RETURN_WITH(record.sealed_map_key,
                              json_base64(envelope.payload, "sealed_map_key", kSealedKeySize), key);
  const Json* const from = detail::json_find(envelope.payload, "recovered_from");
  if (from != nullptr && !from->is_null()) {
    RECLO_ASSIGN_OR_RETURN_WITH(record.recovered_from, decode_recovered_from(*from), key);
  }
  RECLO_TRY(check_envelope(envelope, record.signing_key, key));
  return record;
}

Result<std::vector<MachineRecord>> list_machines(store::ObjectStore& store,
                                                 const RepositoryId& repository,
                                                 std::vector<Error>* problems,
                                                 const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                         store.list_children(layout::kMachinePrefix, cancel));
  if (names.size() > kMachinesMax)
    return Error(Code::kResourceExhausted, "more machines than this version handles");
  std::vector<MachineRecord> machines;
  for (std::string name : names) {
    if (name.ends_with('/')) name.pop_back();
    const auto id = MachineId::parse(name);
    if (!id.ok()) continue;  // not ours
    auto record = load_machine(store, repository, *id, cancel);
    if (record.ok()) {
      machines.push_back(std::move(record).value());
      continue;
    }
    // An enrolment that never happened (packs without machine.json cannot exist: it is put first).
    const Code code = record.error().code();
    if (code != Code::kCorruption && code != Code::kUnsupported && code != Code::kNotFound)
      return std::move(record).error();
    if (problems != nullptr) problems->push_back(std::move(record).error());
  }
  return machines;
}

Bytes encode_machine_keys(const MachineKeys& keys, const RepositoryId& repository) {
  Json json;
  json["format"] = kFormatVersion;
  json["repository"] = repository.hex();
  json["machine"] = keys.id.hex();
  json["name"] = keys.name;
  json["map_key"] = to_base64(keys.map_key.bytes());
  json["signing_seed"] = to_base64(keys.signing.seed.bytes());
  return to_bytes(dump_json(json, 2) + "\n");
}

Result<MachineKeys> decode_machine_keys(ByteSpan text, const RepositoryId& repository) {
  constexpr std::string_view kWhat = "this server's key file";
  RECLO_ASSIGN_OR_RETURN(const Json json, parse_json(as_text(text), kWhat));
  RECLO_TRY(check_record_header(json, repository, kWhat));
  MachineKeys keys;
  RECLO_ASSIGN_OR_RETURN_WITH(keys.id, json_id<MachineId>(json, "machine"), kWhat);
  RECLO_ASSIGN_OR_RETURN_WITH(keys.name, json_get<std::string>(json, "name"), kWhat);
  RECLO_ASSIGN_OR_RETURN_WITH(Bytes map_key, json_base64(json, "map_key", 32), kWhat);
  RECLO_ASSIGN_OR_RETURN_WITH(Bytes seed, json_base64(json, "signing_seed", 32), kWhat);
  keys.map_key = crypto::SecretKey::from_bytes(map_key);
  keys.signing = crypto::signing_key_pair_from_seed(crypto::SecretKey::from_bytes(seed));
  crypto::wipe(map_key);
  crypto::wipe(seed);
  return keys;
}

Json encode_recovered_from(const RecoveredFrom& from) {
  return {{"server", from.server}, {"point", from.point}};
}

Result<RecoveredFrom> decode_recovered_from(const Json& json) {
  RecoveredFrom out;
  RECLO_ASSIGN_OR_RETURN(out.server, json_get<std::string>(json, "server"));
  RECLO_ASSIGN_OR_RETURN(out.point, json_get<std::string>(json, "point"));
  const bool named = out.server.empty() || check_server_name(out.server).ok();
  if (!named || (!out.point.empty() && !PointId::parse(out.point).ok()))
    return Error(Code::kCorruption, "what a branch was recovered from is no recovery point");
  return out;
}

Status check_server_name(std::string_view name) {
  bool fine = !name.empty() && name.size() <= 100 && name != "." && name != "..";
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f || c == '/') fine = false;
  }
  if (fine) return {};
  return Error(Code::kInvalidArgument,
               "a server's name has 1 to 100 characters, without slashes and control characters");
}

}  // namespace reclo::repo
