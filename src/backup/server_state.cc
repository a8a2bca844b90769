#include "backup/server_state.h"

#include <fmt/format.h>

#include "base/kill_point.h"
#include "base/limits.h"
#include "repo/envelope.h"
#include "repo/layout.h"

namespace reclo::backup {
namespace {

constexpr size_t kStateSizeBytesMax = 64 * kKiB;

std::string repository_folder(const std::string& state_directory, const RepositoryId& id) {
  return os::join_path(os::join_path(state_directory, "repositories"), id.hex());
}

// A name as a file name: what is not plain becomes %XX.
std::string folder_name(std::string_view server) {
  std::string out;
  for (const char c : server) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_' || (c == '.' && !out.empty());
    if (plain) {
      out.push_back(c);
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

Result<repo::MachineKeys> load_or_make_keys(const std::string& path,
                                            const repo::Repository& repository,
                                            const std::string& server) {
  if (os::path_exists(path)) {
    RECLO_ASSIGN_OR_RETURN(Bytes text, os::read_file(path, kStateSizeBytesMax));
    auto keys = repo::decode_machine_keys(text, repository.id());
    crypto::wipe(text);
    if (!keys.ok())
      return std::move(keys).error().with(path +
                                          " is damaged (move it away to enrol this server anew)");
    return keys;
  }
  repo::MachineKeys keys = repo::make_machine_keys(server);
  Bytes text = repo::encode_machine_keys(keys, repository.id());
  const Status written = os::write_file_durably(path, text, 0600);
  crypto::wipe(text);
  RECLO_TRY(written);
  return keys;
}

// Before the keys: a branch that was interrupted between the two is begun again as a branch, and an
// identity without keys binds nothing that was written.
Result<ServerIdentity> bind_identity(const std::string& folder, const std::string& server,
                                     bool enrolled, const IdentityClaim& claim) {
  const std::string path = os::join_path(folder, "identity.json");
  std::optional<ServerIdentity> known;
  if (os::path_exists(path)) {
    RECLO_ASSIGN_OR_RETURN(const Bytes text, os::read_file(path, kIdentitySizeBytesMax));
    auto decoded = decode_identity(as_text(text));
    if (!decoded.ok())
      return std::move(decoded).error().with(
          path + " is damaged (remove it when this is the server that it was)");
    known = std::move(decoded).value();
  }
  RECLO_ASSIGN_OR_RETURN(ServerIdentity now, check_identity(server, known, enrolled, claim));
  if (now != known) RECLO_TRY(os::write_file_durably(path, as_bytes(encode_identity(now)), 0600));
  return now;
}

}  // namespace

std::optional<repo::MachineKeys> find_machine_keys(const std::string& state_directory,
                                                   const RepositoryId& repository,
                                                   const repo::MachineRecord& machine) {
  const std::string path = os::join_path(
      os::join_path(os::join_path(repository_folder(state_directory, repository), "servers"),
                    folder_name(machine.name)),
      "keys.json");
  auto text = os::read_file(path, kStateSizeBytesMax);
  if (!text.ok()) return std::nullopt;
  auto keys = repo::decode_machine_keys(*text, repository);
  crypto::wipe(*text);
  if (!keys.ok() || keys->id != machine.id) return std::nullopt;
  return std::move(keys).value();
}

Status check_repository_pin(const std::string& state_directory,
                            const repo::Repository& repository) {
  const std::string folder = repository_folder(state_directory, repository.id());
  RECLO_TRY(os::make_directories(folder));
  const std::string path = os::join_path(folder, "pin.json");
  if (!os::path_exists(path)) {
    const Json pin = {{"repository", repository.id().hex()},
                      {"public_key", to_base64(repository.config().public_key)}};
    return os::write_file_durably(path, as_bytes(pin.dump(2) + "\n"));
  }
  RECLO_ASSIGN_OR_RETURN(const Bytes text, os::read_file(path, kStateSizeBytesMax));
  RECLO_ASSIGN_OR_RETURN(const Json pin, parse_json(as_text(text), path));
  RECLO_ASSIGN_OR_RETURN_WITH(const Bytes key, repo::json_base64(pin, "public_key", 32), path);
  if (!std::equal(key.begin(), key.end(), repository.config().public_key.begin()))
    return Error(
        Code::kConflict,
        fmt::format("the public key of repository {} has changed since this server first used "
                    "it: somebody may want to read your backups. If you changed it yourself, "
                    "remove {}",
                    repository.id().short_hex(), path));
  return {};
}

Result<ServerState> ServerState::open(const std::string& state_directory,
                                      const repo::Repository& repository, const std::string& server,
                                      const IdentityClaim& claim, const CancelToken& cancel) {
  RECLO_TRY(repo::check_server_name(server));
  RECLO_TRY(check_repository_pin(state_directory, repository));
  const std::string folder =
      os::join_path(os::join_path(repository_folder(state_directory, repository.id()), "servers"),
                    folder_name(server));
  RECLO_TRY(os::make_directories(folder));
  auto lock = os::FileLock::acquire(os::join_path(folder, "lock"));
  if (!lock.ok()) {
    if (lock.error().code() == Code::kConflict)
      return Error(Code::kConflict, fmt::format("another backup of '{}' is running", server));
    return std::move(lock).error();
  }
  const std::string keys_path = os::join_path(folder, "keys.json");
  RECLO_ASSIGN_OR_RETURN(const ServerIdentity identity,
                         bind_identity(folder, server, os::path_exists(keys_path), claim));
  RECLO_KILL_POINT("state.identity_written");
  RECLO_ASSIGN_OR_RETURN(repo::MachineKeys keys, load_or_make_keys(keys_path, repository, server));
  RECLO_KILL_POINT("state.keys_written");
  const auto enrolled = repository.store().stat(repo::layout::machine_record(keys.id), cancel);
  if (!enrolled.ok()) {
    if (enrolled.error().code() != Code::kNotFound) return enrolled.error();
    RECLO_TRY(repo::enrol_machine(repository.store(), repository.id(),
                                  repository.config().public_key, keys, cancel,
                                  identity.recovered_from));
  }
  ServerState state(folder, std::move(lock).value(), std::move(keys));
  RECLO_TRY(state.load_last_point());
  return state;
}

Status ServerState::load_last_point() {
  const std::string file = path("state.json");
  if (!os::path_exists(file)) return {};
  RECLO_ASSIGN_OR_RETURN(const Bytes text, os::read_file(file, kStateSizeBytesMax));
  const auto json = parse_json(as_text(text), file);
  if (!json.ok()) return {};  // a memory only: the repository knows the points
  const auto id = repo::json_id<PointId>(*json, "last_point");
  const auto sequence = json_get<uint64_t>(*json, "sequence");
  const auto digest = json_get<std::string>(*json, "digest");
  if (id.ok() && sequence.ok() && digest.ok()) last_point_ = LastPoint{*id, *sequence, *digest};
  return {};
}

Status ServerState::set_last_point(const LastPoint& point) {
  const Json json = {
      {"last_point", point.id.hex()}, {"sequence", point.sequence}, {"digest", point.digest}};
  RECLO_TRY(os::write_file_durably(path("state.json"), as_bytes(json.dump(2) + "\n")));
  last_point_ = point;
  return {};
}

std::string ServerState::tags_path(size_t disk_index) const {
  return path(fmt::format("disk-{}.tags", disk_index));
}
std::string ServerState::tag_updates_path(size_t disk_index) const {
  return path(fmt::format("disk-{}.tags.new", disk_index));
}

}  // namespace reclo::backup
