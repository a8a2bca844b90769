#include "repo/layout.h"

#include <fmt/format.h>

#include <charconv>

namespace reclo::repo::layout {

std::string key_slot(std::string_view slot) { return fmt::format("keys/{}.json", slot); }
std::string machine_prefix(const MachineId& machine) {
  return fmt::format("machines/{}/", machine.hex());
}
std::string machine_record(const MachineId& machine) {
  return machine_prefix(machine) + "machine.json";
}
std::string sessions_prefix(const MachineId& machine) {
  return machine_prefix(machine) + "sessions/";
}
std::string session_begin(const MachineId& machine, const SessionId& session) {
  return sessions_prefix(machine) + session.hex() + "/begin";
}
std::string session_end(const MachineId& machine, const SessionId& session) {
  return sessions_prefix(machine) + session.hex() + "/end";
}
std::string all_packs_prefix(const MachineId& machine) {
  return machine_prefix(machine) + "packs/";
}
std::string packs_prefix(const MachineId& machine, const SessionId& session) {
  return all_packs_prefix(machine) + session.hex() + "/";
}
std::string pack(const MachineId& machine, const PackId& pack_id) {
  return packs_prefix(machine, pack_id.session) + fmt::format("{:08x}", pack_id.number);
}
std::string tombstone(const MachineId& machine, const SessionId& session) {
  return machine_prefix(machine) + "tombstones/" + session.hex();
}

Result<PackId> parse_pack_key(const MachineId& machine, std::string_view key) {
  const std::string prefix = all_packs_prefix(machine);
  const Error wrong(Code::kInvalidArgument, "not the key of a pack: " + std::string(key));
  if (!key.starts_with(prefix)) return wrong;
  key.remove_prefix(prefix.size());
  if (key.size() != 32 + 1 + 8 || key[32] != '/') return wrong;
  const auto session = SessionId::parse(key.substr(0, 32));
  if (!session.ok()) return wrong;
  PackId pack_id{*session, 0};
  const std::string_view digits = key.substr(33);
  const auto [end, failure] =
      std::from_chars(digits.data(), digits.data() + digits.size(), pack_id.number, 16);
  if (failure != std::errc() || end != digits.data() + digits.size()) return wrong;
  return pack_id;
}

}  // namespace reclo::repo::layout
