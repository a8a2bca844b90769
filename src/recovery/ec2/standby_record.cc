#include "recovery/ec2/standby_record.h"

#include <fmt/format.h>

#include "base/json.h"
#include "base/limits.h"
#include "base/record_error.h"
#include "cloud/ebs_client.h"
#include "recovery/ec2/block_span_json.h"

namespace reclo::recovery {
namespace {

// Version 1 knew no overlays; it is read as having none.
constexpr uint32_t kStandbyVersion = 2;
constexpr size_t kOldMax = 1000;

Json encode_disk(const StandbyDisk& disk) {
  return {{"index", disk.index},
          {"size_bytes", disk.size_bytes},
          {"snapshot", disk.snapshot.text()},
          {"parent", disk.parent ? Json(disk.parent->text()) : Json(nullptr)},
          {"completed", disk.completed},
          {"blocks_put", disk.blocks_put},
          {"overlay_blocks", encode_block_spans(disk.overlay_spans)}};
}

Json encode_one(const Standby& standby) {
  Json disks = Json::array();
  for (const StandbyDisk& disk : standby.disks) disks.push_back(encode_disk(disk));
  return {{"point", standby.point.hex()},
          {"point_time", format_time(standby.point_time)},
          {"attempt", standby.attempt},
          {"boot_mode", standby.boot_mode == cloud::BootMode::kUefi ? "uefi" : "bios"},
          {"image", standby.image.text()},
          {"overlay", standby.overlay},
          {"disks", std::move(disks)},
          {"refreshed_at", format_time(standby.refreshed_at)},
          {"duration_ms", standby.duration_ms}};
}

// An id that may be empty.
template <class Id>
Result<Id> decode_id(const Json& json, std::string_view key) {
  RECLO_ASSIGN_OR_RETURN(const std::string text, json_get_or<std::string>(json, key, ""));
  if (text.empty()) return Id();
  return Id::parse(text);
}

Result<StandbyDisk> decode_disk(const Json& json) {
  StandbyDisk out;
  RECLO_ASSIGN_OR_RETURN(out.index, json_get<uint32_t>(json, "index"));
  RECLO_ASSIGN_OR_RETURN(out.size_bytes, json_get<uint64_t>(json, "size_bytes"));
  RECLO_ASSIGN_OR_RETURN(out.snapshot, decode_id<cloud::SnapshotId>(json, "snapshot"));
  RECLO_ASSIGN_OR_RETURN(cloud::SnapshotId parent, decode_id<cloud::SnapshotId>(json, "parent"));
  if (!parent.empty()) out.parent = std::move(parent);
  RECLO_ASSIGN_OR_RETURN(out.completed, json_get<bool>(json, "completed"));
  RECLO_ASSIGN_OR_RETURN(out.blocks_put, json_get<uint32_t>(json, "blocks_put"));
  RECLO_ASSIGN_OR_RETURN(out.overlay_spans, decode_block_spans(json, "overlay_blocks"));
  return out;
}

Result<WallTime> decode_time(const Json& json, std::string_view key) {
  RECLO_ASSIGN_OR_RETURN(const std::string text, json_get<std::string>(json, key));
  return parse_time(text);
}

Result<Standby> decode_one(const Json& json) {
  Standby out;
  RECLO_ASSIGN_OR_RETURN(const std::string point, json_get<std::string>(json, "point"));
  RECLO_ASSIGN_OR_RETURN(out.point, PointId::parse(point));
  RECLO_ASSIGN_OR_RETURN(out.point_time, decode_time(json, "point_time"));
  RECLO_ASSIGN_OR_RETURN(out.attempt, json_get<uint32_t>(json, "attempt"));
  RECLO_ASSIGN_OR_RETURN(const std::string boot, json_get<std::string>(json, "boot_mode"));
  if (boot != "bios" && boot != "uefi")
    return Error(Code::kCorruption, fmt::format("'{}' is no way to boot", boot));
  out.boot_mode = boot == "uefi" ? cloud::BootMode::kUefi : cloud::BootMode::kBios;
  RECLO_ASSIGN_OR_RETURN(out.image, decode_id<cloud::ImageId>(json, "image"));
  RECLO_ASSIGN_OR_RETURN(out.overlay, json_get_or<std::string>(json, "overlay", ""));
  RECLO_ASSIGN_OR_RETURN(const Json* disks, json_array(json, "disks"));
  if (disks->size() > kDisksPerServerMax)
    return Error(Code::kCorruption, "more disks than a server can have");
  for (const Json& entry : *disks) {
    RECLO_ASSIGN_OR_RETURN(StandbyDisk disk, decode_disk(entry));
    out.disks.push_back(std::move(disk));
  }
  RECLO_ASSIGN_OR_RETURN(out.refreshed_at, decode_time(json, "refreshed_at"));
  RECLO_ASSIGN_OR_RETURN(out.duration_ms, json_get<int64_t>(json, "duration_ms"));
  return out;
}

Result<std::optional<Standby>> decode_optional(const Json& json, std::string_view key) {
  const Json* found = detail::json_find(json, key);
  if (found == nullptr || found->is_null()) return std::optional<Standby>();
  RECLO_ASSIGN_OR_RETURN(Standby standby, decode_one(*found));
  return std::optional<Standby>(std::move(standby));
}

Result<StandbyRecord> decode_fields(const Json& json) {
  RECLO_ASSIGN_OR_RETURN(const uint32_t version, json_get<uint32_t>(json, "version"));
  if (version == 0 || version > kStandbyVersion)
    return Error(Code::kUnsupported, fmt::format("it is of version {}, this program knows {}",
                                                 version, kStandbyVersion));
  StandbyRecord out;
  RECLO_ASSIGN_OR_RETURN(out.server, json_get<std::string>(json, "server"));
  RECLO_ASSIGN_OR_RETURN(const std::string machine, json_get<std::string>(json, "machine"));
  RECLO_ASSIGN_OR_RETURN(out.machine, MachineId::parse(machine));
  RECLO_ASSIGN_OR_RETURN(out.region, json_get<std::string>(json, "region"));
  RECLO_ASSIGN_OR_RETURN(out.keeper, json_get<std::string>(json, "keeper"));
  RECLO_ASSIGN_OR_RETURN(out.attempts, json_get<uint32_t>(json, "attempts"));
  RECLO_ASSIGN_OR_RETURN(out.current, decode_optional(json, "current"));
  RECLO_ASSIGN_OR_RETURN(out.pending, decode_optional(json, "pending"));
  RECLO_ASSIGN_OR_RETURN(const Json* old, json_array(json, "old"));
  if (old->size() > kOldMax) return Error(Code::kCorruption, "too many old standbys");
  for (const Json& entry : *old) {
    RECLO_ASSIGN_OR_RETURN(Standby standby, decode_one(entry));
    out.old.push_back(std::move(standby));
  }
  return out;
}

}  // namespace

std::string encode_standby(const StandbyRecord& record) {
  Json old = Json::array();
  for (const Standby& standby : record.old) old.push_back(encode_one(standby));
  const Json json = {{"version", kStandbyVersion},
                     {"server", record.server},
                     {"machine", record.machine.hex()},
                     {"region", record.region},
                     {"keeper", record.keeper},
                     {"attempts", record.attempts},
                     {"current", record.current ? encode_one(*record.current) : Json(nullptr)},
                     {"pending", record.pending ? encode_one(*record.pending) : Json(nullptr)},
                     {"old", std::move(old)}};
  return dump_json(json, 2) + "\n";
}

Result<StandbyRecord> decode_standby(std::string_view text) {
  RECLO_ASSIGN_OR_RETURN(const Json json,
                         parse_json(text, "the standby's record", kStandbySizeBytesMax));
  return name_unusable(decode_fields(json), "the standby's record cannot be used");
}

}  // namespace reclo::recovery
