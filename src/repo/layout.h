// The names of all objects in a repository. docs/format.md §2.
#pragma once

#include <string>

#include "base/ids.h"
#include "repo/address.h"

namespace reclo::repo::layout {

inline constexpr const char* kConfigKey = "reclo.json";
inline constexpr const char* kKeySlotPrefix = "keys/";
inline constexpr const char* kMachinePrefix = "machines/";

std::string key_slot(std::string_view slot);
std::string machine_prefix(const MachineId& machine);
std::string machine_record(const MachineId& machine);
std::string sessions_prefix(const MachineId& machine);
std::string session_begin(const MachineId& machine, const SessionId& session);
std::string session_end(const MachineId& machine, const SessionId& session);
std::string packs_prefix(const MachineId& machine, const SessionId& session);
std::string all_packs_prefix(const MachineId& machine);
std::string pack(const MachineId& machine, const PackId& pack);
std::string tombstone(const MachineId& machine, const SessionId& session);

/// The pack that an object key below all_packs_prefix() names; nothing when it is not one.
Result<PackId> parse_pack_key(const MachineId& machine, std::string_view key);

}  // namespace reclo::repo::layout
