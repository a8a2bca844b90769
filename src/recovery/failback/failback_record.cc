#include "recovery/failback/failback_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/json.h"
#include "base/limits.h"
#include "base/record_error.h"
#include "recovery/ec2/block_span_json.h"

namespace reclo::recovery {
namespace {

constexpr uint32_t kFailbackVersion = 1;
constexpr size_t kIdDigits = 12;
constexpr size_t kLeftoversMax = 10'000;
constexpr int64_t kMsMax = int64_t{1} << 48;  // some thousand years
constexpr std::array<std::string_view, 7> kStateNames = {
    "seeding", "stopping", "stopped", "verified", "home", "done", "abandoned"};

Result<int64_t> decode_ms(const Json& json, std::string_view key) {
  RECLO_ASSIGN_OR_RETURN(const int64_t ms, json_get<int64_t>(json, key));
  if (ms < -kMsMax || ms > kMsMax)
    return Error(Code::kCorruption, fmt::format("'{}' is no time", key));
  return ms;
}

Json encode_disk(const FailbackDisk& disk) {
  return {{"index", disk.index},
          {"size_bytes", disk.size_bytes},
          {"target", disk.target},
          {"target_identity", disk.target_identity},
          {"base_restored", disk.base_restored},
          {"volume", disk.volume.text()},
          {"held", disk.held.text()},
          {"extra_blocks", encode_block_spans(disk.extra_blocks)},
          {"everything", disk.everything},
          {"pending", disk.pending.text()},
          {"pending_created_ms", disk.pending_created_ms},
          {"held_created_ms", disk.held_created_ms}};
}

template <class Id>
Result<Id> decode_optional_id(const Json& json, std::string_view key) {
  RECLO_ASSIGN_OR_RETURN(const std::string text, json_get<std::string>(json, key));
  if (text.empty()) return Id();
  return Id::parse(text);
}

template <class Id>
Result<Id> decode_id(const Json& json, std::string_view key) {
  RECLO_ASSIGN_OR_RETURN(const std::string text, json_get<std::string>(json, key));
  return Id::parse(text);
}

Result<FailbackDisk> decode_disk(const Json& json) {
  FailbackDisk out;
  RECLO_ASSIGN_OR_RETURN(out.index, json_get<uint32_t>(json, "index"));
  RECLO_ASSIGN_OR_RETURN(out.size_bytes, json_get<uint64_t>(json, "size_bytes"));
  RECLO_ASSIGN_OR_RETURN(out.target, json_get<std::string>(json, "target"));
  RECLO_ASSIGN_OR_RETURN(out.target_identity, json_get<std::string>(json, "target_identity"));
  RECLO_ASSIGN_OR_RETURN(out.base_restored, json_get<bool>(json, "base_restored"));
  RECLO_ASSIGN_OR_RETURN(out.volume, decode_optional_id<cloud::VolumeId>(json, "volume"));
  RECLO_ASSIGN_OR_RETURN(out.held, decode_optional_id<cloud::SnapshotId>(json, "held"));
  RECLO_ASSIGN_OR_RETURN(out.extra_blocks, decode_block_spans(json, "extra_blocks"));
  RECLO_ASSIGN_OR_RETURN(out.everything, json_get<bool>(json, "everything"));
  RECLO_ASSIGN_OR_RETURN(out.pending, decode_optional_id<cloud::SnapshotId>(json, "pending"));
  RECLO_ASSIGN_OR_RETURN(out.pending_created_ms, decode_ms(json, "pending_created_ms"));
  RECLO_ASSIGN_OR_RETURN(out.held_created_ms, decode_ms(json, "held_created_ms"));
  if (out.target.empty()) return Error(Code::kCorruption, "a disk has no target");
  return out;
}

Json encode_round(const FailbackRound& round) {
  return {{"number", round.number},           {"disk", round.disk},
          {"blocks", round.blocks},           {"bytes", round.bytes},
          {"snapshot_ms", round.snapshot_ms}, {"write_ms", round.write_ms},
          {"since_ms", round.since_ms}};
}

Result<FailbackRound> decode_round(const Json& json) {
  FailbackRound out;
  RECLO_ASSIGN_OR_RETURN(out.number, json_get<uint32_t>(json, "number"));
  RECLO_ASSIGN_OR_RETURN(out.disk, json_get<uint32_t>(json, "disk"));
  RECLO_ASSIGN_OR_RETURN(out.blocks, json_get<uint64_t>(json, "blocks"));
  RECLO_ASSIGN_OR_RETURN(out.bytes, json_get<uint64_t>(json, "bytes"));
  RECLO_ASSIGN_OR_RETURN(out.snapshot_ms, decode_ms(json, "snapshot_ms"));
  RECLO_ASSIGN_OR_RETURN(out.write_ms, decode_ms(json, "write_ms"));
  RECLO_ASSIGN_OR_RETURN(out.since_ms, decode_ms(json, "since_ms"));
  return out;
}

Result<FailbackState> decode_state(const Json& json) {
  RECLO_ASSIGN_OR_RETURN(const std::string name, json_get<std::string>(json, "state"));
  const auto* const found = std::find(kStateNames.begin(), kStateNames.end(), name);
  if (found == kStateNames.end())
    return Error(Code::kCorruption, fmt::format("'{}' is no state", name));
  return static_cast<FailbackState>(found - kStateNames.begin());
}

Status decode_lists(const Json& json, FailbackRecord& out) {
  RECLO_ASSIGN_OR_RETURN(const Json* disks, json_array(json, "disks"));
  if (disks->empty() || disks->size() > kDisksPerServerMax)
    return Error(Code::kCorruption, "no disks, or more than a server can have");
  for (const Json& entry : *disks) {
    RECLO_ASSIGN_OR_RETURN(FailbackDisk disk, decode_disk(entry));
    if (disk.index != out.disks.size()) return Error(Code::kCorruption, "disks are out of order");
    out.disks.push_back(std::move(disk));
  }
  RECLO_ASSIGN_OR_RETURN(const Json* rounds, json_array(json, "rounds"));
  if (rounds->size() > kRoundsKeptMax) return Error(Code::kCorruption, "too many rounds");
  for (const Json& entry : *rounds) {
    RECLO_ASSIGN_OR_RETURN(const FailbackRound round, decode_round(entry));
    if (round.disk >= out.disks.size()) return Error(Code::kCorruption, "a round of no disk");
    out.rounds.push_back(round);
  }
  RECLO_ASSIGN_OR_RETURN(const Json* leftovers, json_array(json, "leftovers"));
  if (leftovers->size() > kLeftoversMax) return Error(Code::kCorruption, "too many leftovers");
  for (const Json& entry : *leftovers) {
    if (!entry.is_string()) return Error(Code::kCorruption, "a leftover is no snapshot");
    RECLO_ASSIGN_OR_RETURN(cloud::SnapshotId id,
                           cloud::SnapshotId::parse(entry.get_ref<const std::string&>()));
    out.leftovers.push_back(std::move(id));
  }
  return {};
}

Result<FailbackRecord> decode_fields(const Json& json) {
  RECLO_ASSIGN_OR_RETURN(const uint32_t version, json_get<uint32_t>(json, "version"));
  if (version != kFailbackVersion)
    return Error(Code::kUnsupported, fmt::format("it is of version {}, this program knows {}",
                                                 version, kFailbackVersion));
  FailbackRecord out;
  RECLO_ASSIGN_OR_RETURN(out.id, json_get<std::string>(json, "id"));
  if (out.id.size() != kIdDigits ||
      out.id.find_first_not_of("0123456789abcdef") != std::string::npos)
    return Error(Code::kCorruption, "its id is none");
  RECLO_ASSIGN_OR_RETURN(out.server, json_get<std::string>(json, "server"));
  RECLO_ASSIGN_OR_RETURN(out.source, json_get<std::string>(json, "source"));
  if (out.source != "ec2" && out.source != "qemu")
    return Error(Code::kCorruption, fmt::format("'{}' is no place to come home from", out.source));
  RECLO_ASSIGN_OR_RETURN(out.instance, json_get<std::string>(json, "instance"));
  RECLO_ASSIGN_OR_RETURN(out.region, json_get<std::string>(json, "region"));
  RECLO_ASSIGN_OR_RETURN(out.repository, decode_id<RepositoryId>(json, "repository"));
  RECLO_ASSIGN_OR_RETURN(out.machine, decode_id<MachineId>(json, "machine"));
  RECLO_ASSIGN_OR_RETURN(out.point, decode_id<PointId>(json, "point"));
  RECLO_ASSIGN_OR_RETURN(out.state, decode_state(json));
  RECLO_ASSIGN_OR_RETURN(out.round, json_get<uint32_t>(json, "round"));
  RECLO_ASSIGN_OR_RETURN(out.last_round, json_get<uint32_t>(json, "last_round"));
  const Json* const prepared = detail::json_find(json, "prepared");
  out.prepared.reset();
  if (prepared != nullptr && !prepared->is_null()) {
    RECLO_ASSIGN_OR_RETURN(out.prepared, json_get<bool>(json, "prepared"));
  }
  RECLO_ASSIGN_OR_RETURN(out.force, json_get<bool>(json, "force"));
  RECLO_ASSIGN_OR_RETURN(const std::string started, json_get<std::string>(json, "started_at"));
  RECLO_ASSIGN_OR_RETURN(out.started_at, parse_time(started));
  RECLO_TRY(decode_lists(json, out));
  return out;
}

}  // namespace

std::string_view failback_state_name(FailbackState state) {
  return kStateNames.at(static_cast<size_t>(state));
}

std::string encode_failback(const FailbackRecord& record) {
  Json disks = Json::array();
  for (const FailbackDisk& disk : record.disks) disks.push_back(encode_disk(disk));
  Json rounds = Json::array();
  for (const FailbackRound& round : record.rounds) rounds.push_back(encode_round(round));
  Json leftovers = Json::array();
  for (const cloud::SnapshotId& snapshot : record.leftovers) leftovers.push_back(snapshot.text());
  const Json json = {{"version", kFailbackVersion},
                     {"id", record.id},
                     {"server", record.server},
                     {"source", record.source},
                     {"instance", record.instance},
                     {"region", record.region},
                     {"repository", record.repository.hex()},
                     {"machine", record.machine.hex()},
                     {"point", record.point.hex()},
                     {"state", failback_state_name(record.state)},
                     {"round", record.round},
                     {"last_round", record.last_round},
                     {"prepared", record.prepared ? Json(*record.prepared) : Json(nullptr)},
                     {"force", record.force},
                     {"started_at", format_time(record.started_at)},
                     {"disks", std::move(disks)},
                     {"rounds", std::move(rounds)},
                     {"leftovers", std::move(leftovers)}};
  return dump_json(json, 1) + "\n";
}

Result<FailbackRecord> decode_failback(std::string_view text) {
  RECLO_ASSIGN_OR_RETURN(const Json json,
                         parse_json(text, "the failback's record", kFailbackSizeBytesMax));
  return name_unusable(decode_fields(json), "the failback's record cannot be used");
}

std::optional<CutoverForecast> forecast_cutover(const FailbackRecord& record) {
  CutoverForecast out;
  bool known = false;
  double snapshot_ms = 0;
  double write_ms = 0;
  for (const FailbackRound& round : record.rounds) {
    if (round.number != record.round || round.since_ms <= 0) continue;
    known = true;
    const auto blocks = static_cast<double>(round.blocks);
    const auto took_ms = static_cast<double>(round.snapshot_ms + round.write_ms);
    // While this round was done the server wrote on: that is what a cutover now finds.
    const double next = std::min(blocks, blocks * took_ms / static_cast<double>(round.since_ms));
    out.blocks += next;
    snapshot_ms = std::max(snapshot_ms, static_cast<double>(round.snapshot_ms));
    write_ms += blocks > 0 ? next * static_cast<double>(round.write_ms) / blocks : 0;
  }
  if (!known) return std::nullopt;
  out.seconds = (snapshot_ms + write_ms) / 1000;
  return out;
}

}  // namespace reclo::recovery
