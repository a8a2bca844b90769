#include "recovery/ec2/failover_record.h"

#include <fmt/format.h>

#include <array>

#include "base/json.h"
#include "base/limits.h"
#include "base/record_error.h"
#include "recovery/clone_marker.h"
#include "recovery/ec2/block_span_json.h"

namespace reclo::recovery {
namespace {

constexpr uint32_t kVersion = 1;
constexpr size_t kListMax = 64;
constexpr std::array<std::string_view, 8> kStates{"planned",  "image_ready", "network_ready",
                                                  "launched", "running",     "answering",
                                                  "stopped",  "deleting"};
constexpr std::array<std::string_view, 4> kVias{"auto", "standby", "cold", "import"};

template <class T, size_t N>
Result<T> from_name(const std::array<std::string_view, N>& names, std::string_view name) {
  for (size_t i = 0; i < N; ++i)
    if (names[i] == name) return static_cast<T>(i);
  return Error(Code::kCorruption, fmt::format("'{}' is none of its words", name.substr(0, 40)));
}

template <class Id>
Json ids_json(const std::vector<Id>& ids) {
  Json out = Json::array();
  for (const Id& id : ids) out.push_back(id.text());
  return out;
}

// An id that may be empty.
template <class Id>
Status read_id(const Json& json, std::string_view key, Id& out) {
  RECLO_ASSIGN_OR_RETURN(const std::string text, json_get<std::string>(json, key));
  if (text.empty()) return {};
  RECLO_ASSIGN_OR_RETURN(out, Id::parse(text));
  return {};
}

Status read(const Json& json, std::string_view key, std::string& out) {
  RECLO_ASSIGN_OR_RETURN(out, json_get<std::string>(json, key));
  return {};
}

Status read_texts(const Json& json, std::string_view key, std::vector<std::string>& out) {
  RECLO_ASSIGN_OR_RETURN(const Json* array, json_array(json, key));
  if (array->size() > kListMax) return Error(Code::kCorruption, "a list that is too long");
  for (const Json& entry : *array) {
    if (!entry.is_string()) return Error(Code::kCorruption, fmt::format("'{}' is no text", key));
    out.push_back(entry.get<std::string>());
  }
  return {};
}

template <class Id>
Status read_ids(const Json& json, std::string_view key, std::vector<Id>& out) {
  std::vector<std::string> texts;
  RECLO_TRY(read_texts(json, key, texts));
  for (const std::string& text : texts) {
    RECLO_ASSIGN_OR_RETURN(Id id, Id::parse(text));
    out.push_back(std::move(id));
  }
  return {};
}

Result<WallTime> read_time(const Json& json, std::string_view key) {
  RECLO_ASSIGN_OR_RETURN(const std::string text, json_get<std::string>(json, key));
  return parse_time(text);
}

Json optional_ms(const std::optional<int64_t>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Status read_optional_ms(const Json& json, std::string_view key, std::optional<int64_t>& out) {
  const Json* found = detail::json_find(json, key);
  if (found == nullptr || found->is_null()) return {};
  RECLO_ASSIGN_OR_RETURN(out, json_get<int64_t>(json, key));
  return {};
}

Json encode_request(const FailoverRequest& request) {
  return {{"instance_types", request.instance_types},
          {"subnet", request.subnet ? request.subnet->text() : ""},
          {"security_groups", ids_json(request.security_groups)},
          {"key_name", request.key_name},
          {"private_ip", request.private_ip},
          {"drill", request.drill},
          {"ttl_ms", request.ttl_ms},
          {"wait_for", request.wait_for},
          {"wait_timeout_ms", request.wait_timeout_ms},
          {"via", failover_via_name(request.via)},
          {"import_bucket", request.import_bucket},
          {"operator_cidr", request.operator_cidr},
          {"no_prepare", request.no_prepare}};
}

Result<FailoverVia> read_via(const Json& json) {
  RECLO_ASSIGN_OR_RETURN(const std::string via, json_get<std::string>(json, "via"));
  return from_name<FailoverVia>(kVias, via);
}

Status decode_request(const Json& json, FailoverRequest& out) {
  RECLO_TRY(read_texts(json, "instance_types", out.instance_types));
  cloud::SubnetId subnet;
  RECLO_TRY(read_id(json, "subnet", subnet));
  if (!subnet.empty()) out.subnet = std::move(subnet);
  RECLO_TRY(read_ids(json, "security_groups", out.security_groups));
  RECLO_TRY(read(json, "key_name", out.key_name));
  RECLO_TRY(read(json, "private_ip", out.private_ip));
  RECLO_ASSIGN_OR_RETURN(out.drill, json_get<bool>(json, "drill"));
  RECLO_ASSIGN_OR_RETURN(out.ttl_ms, json_get<int64_t>(json, "ttl_ms"));
  RECLO_TRY(read(json, "wait_for", out.wait_for));
  RECLO_ASSIGN_OR_RETURN(out.wait_timeout_ms, json_get<int64_t>(json, "wait_timeout_ms"));
  RECLO_ASSIGN_OR_RETURN(out.via, read_via(json));
  RECLO_TRY(read(json, "import_bucket", out.import_bucket));
  RECLO_ASSIGN_OR_RETURN(out.no_prepare, json_get<bool>(json, "no_prepare"));
  return read(json, "operator_cidr", out.operator_cidr);
}

Json encode_cloud(const CloudAddress& cloud) {
  return {{"region", cloud.region},
          {"ec2_endpoint", cloud.ec2_endpoint},
          {"ebs_endpoint", cloud.ebs_endpoint},
          {"sts_endpoint", cloud.sts_endpoint},
          {"quotas_endpoint", cloud.quotas_endpoint},
          {"role_arn", cloud.role_arn}};
}

Status decode_cloud(const Json& json, CloudAddress& out) {
  RECLO_TRY(read(json, "region", out.region));
  RECLO_TRY(read(json, "ec2_endpoint", out.ec2_endpoint));
  RECLO_TRY(read(json, "ebs_endpoint", out.ebs_endpoint));
  RECLO_TRY(read(json, "sts_endpoint", out.sts_endpoint));
  RECLO_TRY(read(json, "quotas_endpoint", out.quotas_endpoint));
  return read(json, "role_arn", out.role_arn);
}

Json encode_disks(const std::vector<FailoverDisk>& disks) {
  Json out = Json::array();
  for (const FailoverDisk& disk : disks)
    out.push_back({{"index", disk.index},
                   {"size_bytes", disk.size_bytes},
                   {"attempt", disk.attempt},
                   {"snapshot", disk.snapshot.text()},
                   {"overlay_blocks", encode_block_spans(disk.overlay_spans)},
                   {"completed", disk.completed},
                   {"upload_id", disk.upload_id},
                   {"uploaded", disk.uploaded},
                   {"import_task", disk.import_task}});
  return out;
}

Status decode_disks(const Json& json, std::vector<FailoverDisk>& out) {
  RECLO_ASSIGN_OR_RETURN(const Json* array, json_array(json, "disks"));
  if (array->size() > kDisksPerServerMax)
    return Error(Code::kCorruption, "more disks than a server can have");
  for (const Json& entry : *array) {
    FailoverDisk disk;
    RECLO_ASSIGN_OR_RETURN(disk.index, json_get<uint32_t>(entry, "index"));
    RECLO_ASSIGN_OR_RETURN(disk.size_bytes, json_get<uint64_t>(entry, "size_bytes"));
    RECLO_ASSIGN_OR_RETURN(disk.attempt, json_get<uint32_t>(entry, "attempt"));
    RECLO_TRY(read_id(entry, "snapshot", disk.snapshot));
    RECLO_ASSIGN_OR_RETURN(disk.overlay_spans, decode_block_spans(entry, "overlay_blocks"));
    RECLO_ASSIGN_OR_RETURN(disk.completed, json_get<bool>(entry, "completed"));
    RECLO_TRY(read(entry, "upload_id", disk.upload_id));
    RECLO_ASSIGN_OR_RETURN(disk.uploaded, json_get<bool>(entry, "uploaded"));
    RECLO_TRY(read(entry, "import_task", disk.import_task));
    out.push_back(std::move(disk));
  }
  return {};
}

Json encode_image_disks(const std::vector<ImageDisk>& disks) {
  Json out = Json::array();
  for (const ImageDisk& disk : disks)
    out.push_back({{"device", disk.device}, {"snapshot", disk.snapshot.text()}});
  return out;
}

Status decode_image_disks(const Json& json, std::vector<ImageDisk>& out) {
  RECLO_ASSIGN_OR_RETURN(const Json* array, json_array(json, "image_disks"));
  if (array->size() > kDisksPerServerMax)
    return Error(Code::kCorruption, "more disks than a server can have");
  for (const Json& entry : *array) {
    ImageDisk disk;
    RECLO_TRY(read(entry, "device", disk.device));
    RECLO_TRY(read_id(entry, "snapshot", disk.snapshot));
    out.push_back(std::move(disk));
  }
  return {};
}

Json encode_launches(const std::vector<Launch>& launches) {
  Json out = Json::array();
  for (const Launch& launch : launches)
    out.push_back({{"number", launch.number},
                   {"instance_type", launch.instance_type},
                   {"subnet", launch.subnet.text()},
                   {"zone", launch.zone},
                   {"security_groups", ids_json(launch.security_groups)},
                   {"key_name", launch.key_name},
                   {"private_ip", launch.private_ip},
                   {"refused", launch.refused}});
  return out;
}

Status decode_launches(const Json& json, std::vector<Launch>& out) {
  RECLO_ASSIGN_OR_RETURN(const Json* array, json_array(json, "launches"));
  if (array->size() > kLaunchesMax) return Error(Code::kCorruption, "too many launches");
  for (const Json& entry : *array) {
    Launch launch;
    RECLO_ASSIGN_OR_RETURN(launch.number, json_get<uint32_t>(entry, "number"));
    RECLO_TRY(read(entry, "instance_type", launch.instance_type));
    RECLO_TRY(read_id(entry, "subnet", launch.subnet));
    RECLO_TRY(read(entry, "zone", launch.zone));
    RECLO_TRY(read_ids(entry, "security_groups", launch.security_groups));
    RECLO_TRY(read(entry, "key_name", launch.key_name));
    RECLO_TRY(read(entry, "private_ip", launch.private_ip));
    RECLO_TRY(read(entry, "refused", launch.refused));
    out.push_back(std::move(launch));
  }
  return {};
}

Json encode_steps(const std::vector<StepRecord>& steps) {
  Json out = Json::array();
  for (const StepRecord& step : steps)
    out.push_back({{"name", step.name},
                   {"run", step.run},
                   {"started_ms", step.started_ms},
                   {"finished_ms", step.finished_ms}});
  return out;
}

Status decode_steps(const Json& json, std::vector<StepRecord>& out) {
  RECLO_ASSIGN_OR_RETURN(const Json* array, json_array(json, "steps"));
  for (const Json& entry : *array) {
    if (out.size() == kStepsKeptMax) break;
    StepRecord step;
    RECLO_TRY(read(entry, "name", step.name));
    RECLO_ASSIGN_OR_RETURN(step.run, json_get<uint32_t>(entry, "run"));
    RECLO_ASSIGN_OR_RETURN(step.started_ms, json_get<int64_t>(entry, "started_ms"));
    RECLO_ASSIGN_OR_RETURN(step.finished_ms, json_get<int64_t>(entry, "finished_ms"));
    out.push_back(std::move(step));
  }
  return {};
}

Status decode_identity(const Json& json, Ec2Instance& out) {
  RECLO_TRY(read(json, "id", out.id));
  RECLO_TRY(read(json, "name", out.name));
  RECLO_TRY(read(json, "server", out.server));
  RECLO_TRY(read(json, "repository", out.repository));
  RECLO_ASSIGN_OR_RETURN(const std::string machine, json_get<std::string>(json, "machine"));
  RECLO_ASSIGN_OR_RETURN(out.machine, MachineId::parse(machine));
  RECLO_ASSIGN_OR_RETURN(const std::string point, json_get<std::string>(json, "point"));
  RECLO_ASSIGN_OR_RETURN(out.point, PointId::parse(point));
  RECLO_ASSIGN_OR_RETURN(out.point_time, read_time(json, "point_time"));
  RECLO_ASSIGN_OR_RETURN(out.created_at, read_time(json, "created_at"));
  RECLO_ASSIGN_OR_RETURN(const std::string state, json_get<std::string>(json, "state"));
  RECLO_ASSIGN_OR_RETURN(out.state, from_name<FailoverState>(kStates, state));
  RECLO_TRY(read(json, "problem", out.problem));
  RECLO_ASSIGN_OR_RETURN(const Json* request, json_object(json, "request"));
  RECLO_TRY(decode_request(*request, out.request));
  RECLO_ASSIGN_OR_RETURN(const Json* cloud, json_object(json, "cloud"));
  RECLO_TRY(decode_cloud(*cloud, out.cloud));
  RECLO_ASSIGN_OR_RETURN(const Json* source, json_object(json, "source"));
  if (source->size() > kListMax) return Error(Code::kCorruption, "too much of a source");
  for (const auto& [key, value] : source->items()) {
    if (!value.is_string()) return Error(Code::kCorruption, "a source value that is not text");
    out.source[key] = value.get<std::string>();
  }
  return {};
}

Status decode_made(const Json& json, Ec2Instance& out) {
  RECLO_ASSIGN_OR_RETURN(out.via, read_via(json));
  RECLO_ASSIGN_OR_RETURN(const std::string boot, json_get<std::string>(json, "boot_mode"));
  if (boot != "bios" && boot != "uefi")
    return Error(Code::kCorruption, fmt::format("'{}' is no way to boot", boot.substr(0, 40)));
  out.boot_mode = boot == "uefi" ? cloud::BootMode::kUefi : cloud::BootMode::kBios;
  RECLO_TRY(read_id(json, "image", out.image));
  RECLO_TRY(decode_image_disks(json, out.image_disks));
  RECLO_TRY(decode_disks(json, out.disks));
  RECLO_TRY(read(json, "overlay", out.overlay));
  RECLO_TRY(read_id(json, "made_group", out.made_group));
  RECLO_TRY(decode_launches(json, out.launches));
  RECLO_TRY(read_id(json, "instance", out.instance));
  RECLO_TRY(read(json, "instance_type", out.instance_type));
  RECLO_TRY(read(json, "zone", out.zone));
  RECLO_TRY(read(json, "private_ip", out.private_ip));
  RECLO_TRY(read(json, "public_ip", out.public_ip));
  RECLO_TRY(read(json, "ec2_state", out.ec2_state));
  RECLO_ASSIGN_OR_RETURN(const std::string expires,
                         json_get_or<std::string>(json, "expires_at", ""));
  if (!expires.empty()) {
    RECLO_ASSIGN_OR_RETURN(out.expires_at, parse_time(expires));
  }
  RECLO_ASSIGN_OR_RETURN(out.run, json_get<uint32_t>(json, "run"));
  RECLO_TRY(decode_steps(json, out.steps));
  RECLO_TRY(read_optional_ms(json, "rto_ms", out.rto_ms));
  return read_optional_ms(json, "rpo_ms", out.rpo_ms);
}

Result<Ec2Instance> decode_fields(const Json& json) {
  RECLO_ASSIGN_OR_RETURN(const uint32_t version, json_get<uint32_t>(json, "version"));
  if (version != kVersion)
    return Error(Code::kUnsupported,
                 fmt::format("it is of version {}, this program knows {}", version, kVersion));
  Ec2Instance out;
  RECLO_TRY(decode_identity(json, out));
  RECLO_TRY(decode_made(json, out));
  return out;
}

Json expires_json(const Ec2Instance& record) {
  return record.expires_at ? Json(format_time(*record.expires_at)) : Json(nullptr);
}

}  // namespace

std::string_view failover_state_name(FailoverState state) {
  return kStates[static_cast<size_t>(state)];
}
std::string_view failover_via_name(FailoverVia via) { return kVias[static_cast<size_t>(via)]; }

Result<FailoverVia> parse_failover_via(std::string_view text) {
  const auto via = from_name<FailoverVia>(kVias, text);
  if (via.ok()) return *via;
  return Error(Code::kInvalidArgument, "via is auto, standby, cold or import");
}

std::string encode_ec2_instance(const Ec2Instance& record) {
  const Json json{{"version", kVersion},
                  {"id", record.id},
                  {"name", record.name},
                  {"server", record.server},
                  {"repository", record.repository},
                  {"machine", record.machine.hex()},
                  {"point", record.point.hex()},
                  {"point_time", format_time(record.point_time)},
                  {"created_at", format_time(record.created_at)},
                  {"state", failover_state_name(record.state)},
                  {"problem", record.problem},
                  {"request", encode_request(record.request)},
                  {"cloud", encode_cloud(record.cloud)},
                  {"source", Json(record.source)},
                  {"via", failover_via_name(record.via)},
                  {"boot_mode", record.boot_mode == cloud::BootMode::kUefi ? "uefi" : "bios"},
                  {"image", record.image.text()},
                  {"image_disks", encode_image_disks(record.image_disks)},
                  {"disks", encode_disks(record.disks)},
                  {"overlay", record.overlay},
                  {"made_group", record.made_group.text()},
                  {"launches", encode_launches(record.launches)},
                  {"instance", record.instance.text()},
                  {"instance_type", record.instance_type},
                  {"zone", record.zone},
                  {"private_ip", record.private_ip},
                  {"public_ip", record.public_ip},
                  {"ec2_state", record.ec2_state},
                  {"expires_at", expires_json(record)},
                  {"run", record.run},
                  {"steps", encode_steps(record.steps)},
                  {"rto_ms", optional_ms(record.rto_ms)},
                  {"rpo_ms", optional_ms(record.rpo_ms)}};
  return dump_json(json, 2) + "\n";
}

Result<Ec2Instance> decode_ec2_instance(std::string_view text) {
  RECLO_ASSIGN_OR_RETURN(const Json json, parse_json(text, "ec2.json", kEc2InstanceSizeBytesMax));
  return name_unusable(decode_fields(json), "ec2.json cannot be used");
}

Json describe_ec2_instance(const Ec2Instance& record, WallTime now) {
  Json steps = encode_steps(record.steps);
  for (Json& step : steps)
    step["duration_ms"] = step["finished_ms"].get<int64_t>() - step["started_ms"].get<int64_t>();
  Json addresses = Json::array();
  for (const std::string& address : {record.public_ip, record.private_ip})
    if (!address.empty()) addresses.push_back(address);
  return {{"id", record.id},
          {"name", record.name},
          {"server", record.server},
          {"point", record.point.hex()},
          {"point_time", format_time(record.point_time)},
          {"created_at", format_time(record.created_at)},
          {"state", failover_state_name(record.state)},
          {"problem", record.problem},
          {"target", "ec2"},
          {"running", record.ec2_state == "running"},
          {"region", record.cloud.region},
          {"zone", record.zone},
          {"instance", record.instance.text()},
          {"instance_type", record.instance_type},
          {"ec2_state", record.ec2_state},
          {"image", record.image.text()},
          {"via", failover_via_name(record.via)},
          {"security_group", record.made_group.text()},
          {"private_ip", record.private_ip},
          {"public_ip", record.public_ip},
          {"addresses", std::move(addresses)},
          {"drill", record.request.drill},
          {"expires_at", expires_json(record)},
          {"overdue", record.overdue(now)},
          {"rto_ms", optional_ms(record.rto_ms)},
          {"rpo_ms", optional_ms(record.rpo_ms)},
          {"steps", std::move(steps)}};
}

std::string clone_user_data(const Ec2Instance& record) {
  const Json marker = {{"reclo_clone", kVersion},
                       {"server", record.server},
                       {"machine", record.machine.hex()},
                       {"repository", record.repository},
                       {"recovered_from", record.point.hex()},
                       {"point_time", format_time(record.point_time)},
                       {"instance", record.id},
                       {"recovered_at", format_time(record.created_at)},
                       {"drill", record.request.drill}};
  const Json config = {{"write_files", Json::array({{{"path", kUserDataMarkerPath},
                                                     {"permissions", "0644"},
                                                     {"content", dump_json(marker, 2) + "\n"}}})}};
  return "#cloud-config\n" + dump_json(config, 2) + "\n";
}

}  // namespace reclo::recovery
