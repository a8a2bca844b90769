#include "repo/record.h"

#include <fmt/format.h>

#include "base/limits.h"
#include "repo/envelope.h"

namespace reclo::repo {
namespace {

constexpr std::string_view kFenced = "fenced\n";
constexpr std::string_view kClosed = "closed\n";
constexpr size_t kPinsMax = 256;
constexpr size_t kStagesMax = 32;

Json encode_node_ref(const NodeRef& node) {
  return {{"id", node.id.hex()},
          {"session", node.at.pack.session.hex()},
          {"pack", node.at.pack.number},
          {"slot", node.at.slot},
          {"offset", node.at.offset_bytes},
          {"stored", node.at.stored_bytes}};
}

Result<NodeRef> decode_node_ref(const Json& json) {
  NodeRef node;
  RECLO_ASSIGN_OR_RETURN(node.id, json_id<ChunkId>(json, "id"));
  RECLO_ASSIGN_OR_RETURN(node.at.pack.session, json_id<SessionId>(json, "session"));
  RECLO_ASSIGN_OR_RETURN(node.at.pack.number, json_get<uint32_t>(json, "pack"));
  RECLO_ASSIGN_OR_RETURN(const uint32_t slot, json_get<uint32_t>(json, "slot"));
  RECLO_ASSIGN_OR_RETURN(node.at.offset_bytes, json_get<uint32_t>(json, "offset"));
  RECLO_ASSIGN_OR_RETURN(node.at.stored_bytes, json_get<uint32_t>(json, "stored"));
  if (slot > kPackSlotsMax || node.at.stored_bytes == 0 ||
      uint64_t{node.at.offset_bytes} + node.at.stored_bytes > kPackSizeBytesMax)
    return Error(Code::kCorruption, "a map root lies outside its pack");
  node.at.slot = static_cast<uint16_t>(slot);
  return node;
}

Json encode_disk(const DiskRecord& disk) {
  Json json = {{"name", disk.name},
               {"format", disk.format},
               {"size_bytes", disk.size_bytes},
               {"map_height", disk.map_height},
               {"map_root", nullptr},
               {"allocated_bytes", disk.allocated_bytes},
               {"read_bytes", disk.read_bytes},
               {"new_bytes", disk.new_bytes}};
  if (disk.map_root) json["map_root"] = encode_node_ref(*disk.map_root);
  return json;
}

Result<DiskRecord> decode_disk(const Json& json) {
  DiskRecord disk;
  RECLO_ASSIGN_OR_RETURN(disk.name, json_get<std::string>(json, "name"));
  RECLO_ASSIGN_OR_RETURN(disk.format, json_get<std::string>(json, "format"));
  RECLO_ASSIGN_OR_RETURN(disk.size_bytes, json_get<uint64_t>(json, "size_bytes"));
  RECLO_ASSIGN_OR_RETURN(const uint32_t height, json_get<uint32_t>(json, "map_height"));
  if (disk.size_bytes == 0 || disk.size_bytes > kDiskSizeBytesMax ||
      height != map_height(disk.size_bytes))
    return Error(Code::kCorruption, "a disk has no sane size");
  disk.map_height = static_cast<uint8_t>(height);
  const auto root = json.find("map_root");
  if (root != json.end() && !root->is_null()) {
    RECLO_ASSIGN_OR_RETURN(disk.map_root, decode_node_ref(*root));
  }
  RECLO_ASSIGN_OR_RETURN(disk.allocated_bytes, json_get_or<uint64_t>(json, "allocated_bytes", 0));
  RECLO_ASSIGN_OR_RETURN(disk.read_bytes, json_get_or<uint64_t>(json, "read_bytes", 0));
  RECLO_ASSIGN_OR_RETURN(disk.new_bytes, json_get_or<uint64_t>(json, "new_bytes", 0));
  return disk;
}

Json encode_statistics(const PointStatistics& statistics) {
  Json stages = Json::array();
  for (const StageTime& stage : statistics.stages)
    stages.push_back({{"name", stage.name}, {"busy_ms", stage.busy_ms}});
  return {{"stored_bytes", statistics.stored_bytes},     {"map_bytes", statistics.map_bytes},
          {"uploaded_bytes", statistics.uploaded_bytes}, {"put_requests", statistics.put_requests},
          {"duration_ms", statistics.duration_ms},       {"stages", stages},
          {"slowest_stage", statistics.slowest_stage}};
}

Result<PointStatistics> decode_statistics(const Json& json) {
  PointStatistics out;
  RECLO_ASSIGN_OR_RETURN(out.stored_bytes, json_get_or<uint64_t>(json, "stored_bytes", 0));
  RECLO_ASSIGN_OR_RETURN(out.map_bytes, json_get_or<uint64_t>(json, "map_bytes", 0));
  RECLO_ASSIGN_OR_RETURN(out.uploaded_bytes, json_get_or<uint64_t>(json, "uploaded_bytes", 0));
  RECLO_ASSIGN_OR_RETURN(out.put_requests, json_get_or<uint64_t>(json, "put_requests", 0));
  RECLO_ASSIGN_OR_RETURN(out.duration_ms, json_get_or<uint64_t>(json, "duration_ms", 0));
  RECLO_ASSIGN_OR_RETURN(out.slowest_stage, json_get_or<std::string>(json, "slowest_stage", ""));
  RECLO_ASSIGN_OR_RETURN(const Json* stages, json_array(json, "stages"));
  if (stages->size() > kStagesMax) return Error(Code::kCorruption, "too many stages");
  for (const Json& stage : *stages) {
    StageTime time;
    RECLO_ASSIGN_OR_RETURN(time.name, json_get<std::string>(stage, "name"));
    RECLO_ASSIGN_OR_RETURN(time.busy_ms, json_get<uint64_t>(stage, "busy_ms"));
    out.stages.push_back(std::move(time));
  }
  return out;
}

Result<Consistency> parse_consistency(const std::string& text) {
  for (const Consistency value :
       {Consistency::kCrash, Consistency::kFileSystem, Consistency::kApplication})
    if (text == consistency_name(value)) return value;
  return Error(Code::kCorruption, "unknown consistency '" + text + "'");
}

Result<PointRecord> decode_point_payload(const Json& json) {
  PointRecord record;
  RECLO_ASSIGN_OR_RETURN(record.machine, json_id<MachineId>(json, "machine"));
  RECLO_ASSIGN_OR_RETURN(record.id, json_id<PointId>(json, "session"));
  RECLO_ASSIGN_OR_RETURN(record.server, json_get<std::string>(json, "server"));
  RECLO_ASSIGN_OR_RETURN(record.sequence, json_get<uint64_t>(json, "sequence"));
  const auto previous = json.find("previous");
  if (previous != json.end() && !previous->is_null()) {
    RECLO_ASSIGN_OR_RETURN(record.previous, json_id<PointId>(json, "previous"));
  }
  RECLO_ASSIGN_OR_RETURN(record.previous_digest,
                         json_get_or<std::string>(json, "previous_digest", ""));
  RECLO_ASSIGN_OR_RETURN(record.started, json_time(json, "started"));
  RECLO_ASSIGN_OR_RETURN(record.taken, json_time(json, "taken"));
  RECLO_ASSIGN_OR_RETURN(record.finished, json_time(json, "finished"));
  RECLO_ASSIGN_OR_RETURN(const std::string kind, json_get<std::string>(json, "kind"));
  record.kind = kind == "full" ? PointKind::kFull : PointKind::kIncremental;
  RECLO_ASSIGN_OR_RETURN(const std::string consistency, json_get<std::string>(json, "consistency"));
  RECLO_ASSIGN_OR_RETURN(record.consistency, parse_consistency(consistency));
  RECLO_ASSIGN_OR_RETURN(record.program_version,
                         json_get_or<std::string>(json, "program_version", ""));
  RECLO_ASSIGN_OR_RETURN(const Json* disks, json_array(json, "disks"));
  if (disks->empty() || disks->size() > kDisksPerServerMax)
    return Error(Code::kCorruption, "no sane number of disks");
  for (const Json& disk : *disks) {
    RECLO_ASSIGN_OR_RETURN(DiskRecord decoded, decode_disk(disk));
    record.disks.push_back(std::move(decoded));
  }
  RECLO_ASSIGN_OR_RETURN(const Json* statistics, json_object(json, "statistics"));
  RECLO_ASSIGN_OR_RETURN(record.statistics, decode_statistics(*statistics));
  return record;
}

}  // namespace

std::string_view consistency_name(Consistency consistency) {
  switch (consistency) {
    case Consistency::kCrash:
      return "crash";
    case Consistency::kFileSystem:
      return "file-system";
    case Consistency::kApplication:
      return "application";
  }
  return "crash";
}

std::string_view point_kind_name(PointKind kind) {
  return kind == PointKind::kFull ? "full" : "incremental";
}

Bytes encode_begin(const BeginRecord& record, const RepositoryId& repository,
                   const crypto::SigningKeyPair* signer) {
  Json pins = Json::array();
  for (const PointId& pin : record.pins) pins.push_back(pin.hex());
  const Json payload = {{"format", kFormatVersion},
                        {"repository", repository.hex()},
                        {"machine", record.machine.hex()},
                        {"session", record.session.hex()},
                        {"kind", record.kind == SessionKind::kBackup ? "backup" : "reader"},
                        {"started", format_time(record.started)},
                        {"pins", pins}};
  return make_envelope(payload, signer);
}

Result<BeginRecord> decode_begin(ByteSpan object, const RepositoryId& repository,
                                 std::string_view key) {
  RECLO_ASSIGN_OR_RETURN(const Envelope envelope, open_envelope(object, key));
  RECLO_TRY(check_record_header(envelope.payload, repository, key));
  BeginRecord record;
  RECLO_ASSIGN_OR_RETURN_WITH(record.machine, json_id<MachineId>(envelope.payload, "machine"), key);
  RECLO_ASSIGN_OR_RETURN_WITH(record.session, json_id<SessionId>(envelope.payload, "session"), key);
  RECLO_ASSIGN_OR_RETURN_WITH(const std::string kind,
                              json_get<std::string>(envelope.payload, "kind"), key);
  record.kind = kind == "reader" ? SessionKind::kReader : SessionKind::kBackup;
  RECLO_ASSIGN_OR_RETURN_WITH(record.started, json_time(envelope.payload, "started"), key);
  RECLO_ASSIGN_OR_RETURN_WITH(const Json* pins, json_array(envelope.payload, "pins"), key);
  if (pins->size() > kPinsMax)
    return Error(Code::kCorruption, fmt::format("{}: too many pins", key));
  for (const Json& pin : *pins) {
    const auto id = pin.is_string() ? PointId::parse(pin.get_ref<const std::string&>())
                                    : Result<PointId>(Error(Code::kCorruption, "not a text"));
    if (!id.ok()) return Error(Code::kCorruption, fmt::format("{}: a pin is not an id", key));
    record.pins.push_back(*id);
  }
  return record;
}

Bytes encode_point(const PointRecord& record, const RepositoryId& repository,
                   const crypto::SigningKeyPair& signer) {
  Json disks = Json::array();
  for (const DiskRecord& disk : record.disks) disks.push_back(encode_disk(disk));
  Json payload = {{"format", kFormatVersion},
                  {"repository", repository.hex()},
                  {"machine", record.machine.hex()},
                  {"session", record.id.hex()},
                  {"server", record.server},
                  {"sequence", record.sequence},
                  {"previous", nullptr},
                  {"previous_digest", record.previous_digest},
                  {"started", format_time(record.started)},
                  {"taken", format_time(record.taken)},
                  {"finished", format_time(record.finished)},
                  {"kind", point_kind_name(record.kind)},
                  {"consistency", consistency_name(record.consistency)},
                  {"program_version", record.program_version},
                  {"disks", disks},
                  {"statistics", encode_statistics(record.statistics)}};
  if (record.previous) payload["previous"] = record.previous->hex();
  return make_envelope(payload, &signer);
}

Result<std::optional<PointRecord>> decode_end(ByteSpan object, const RepositoryId& repository,
                                              const crypto::PublicKey& signer,
                                              std::string_view key) {
  if (as_text(object) == kFenced || as_text(object) == kClosed) return std::optional<PointRecord>();
  RECLO_ASSIGN_OR_RETURN(const Envelope envelope, open_envelope(object, key));
  RECLO_TRY(check_record_header(envelope.payload, repository, key));
  RECLO_TRY(check_envelope(envelope, signer, key));
  auto record = decode_point_payload(envelope.payload);
  if (!record.ok()) return std::move(record).error().with(key);
  return std::optional<PointRecord>(std::move(record).value());
}

Bytes fenced_end() { return to_bytes(kFenced); }
Bytes closed_end() { return to_bytes(kClosed); }

}  // namespace reclo::repo
