#include "recovery/instance_record.h"

#include <fmt/format.h>

#include <array>

#include "base/json.h"
#include "base/limits.h"

namespace reclo::recovery {
namespace {

constexpr std::array<std::string_view, 7> kStateNames{
    "created", "exports_started", "overlays_made", "started", "answering", "stopped", "failed"};
constexpr std::array<std::string_view, 5> kHydrationNames{"none", "waiting", "running", "done",
                                                          "failed"};

template <class T, size_t N>
Result<T> from_name(const std::array<std::string_view, N>& names, const std::string& name) {
  for (size_t i = 0; i < N; ++i)
    if (names[i] == name) return static_cast<T>(i);
  return Error(Code::kCorruption, fmt::format("'{}' is no state of an instance", name));
}

Json encode_process(const ProcessRef& process) {
  if (!process.known()) return nullptr;
  return {{"pid", process.pid}, {"start_ticks", process.start_ticks}, {"boot_id", process.boot_id}};
}

Result<ProcessRef> decode_process(const Json& object, std::string_view key) {
  const Json* found = detail::json_find(object, key);
  if (found == nullptr || found->is_null()) return ProcessRef{};
  ProcessRef out;
  RECLO_ASSIGN_OR_RETURN(const uint32_t pid, json_get<uint32_t>(*found, "pid"));
  out.pid = static_cast<pid_t>(pid & 0x7fffffff);
  RECLO_ASSIGN_OR_RETURN(out.start_ticks, json_get<uint64_t>(*found, "start_ticks"));
  RECLO_ASSIGN_OR_RETURN(out.boot_id, json_get<std::string>(*found, "boot_id"));
  return out;
}

Json optional_ms(const std::optional<int64_t>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Result<std::optional<int64_t>> decode_optional_ms(const Json& object, std::string_view key) {
  const Json* found = detail::json_find(object, key);
  if (found == nullptr || found->is_null()) return std::optional<int64_t>();
  RECLO_ASSIGN_OR_RETURN(const int64_t value, json_get<int64_t>(object, key));
  return std::optional<int64_t>(value);
}

Result<std::vector<DiskRecord>> decode_disks(const Json& json) {
  RECLO_ASSIGN_OR_RETURN(const Json* array, json_array(json, "disks"));
  if (array->size() > kDisksPerServerMax)
    return Error(Code::kCorruption, "more disks than a server can have");
  std::vector<DiskRecord> out;
  for (const Json& entry : *array) {
    DiskRecord disk;
    RECLO_ASSIGN_OR_RETURN(disk.index, json_get<uint32_t>(entry, "index"));
    RECLO_ASSIGN_OR_RETURN(disk.size_bytes, json_get<uint64_t>(entry, "size_bytes"));
    RECLO_ASSIGN_OR_RETURN(disk.export_process, decode_process(entry, "export"));
    RECLO_ASSIGN_OR_RETURN(disk.hydrated_bytes, json_get<uint64_t>(entry, "hydrated_bytes"));
    RECLO_ASSIGN_OR_RETURN(disk.hydration_total_bytes,
                           json_get<uint64_t>(entry, "hydration_total_bytes"));
    RECLO_ASSIGN_OR_RETURN(disk.hydrated, json_get<bool>(entry, "hydrated"));
    out.push_back(std::move(disk));
  }
  return out;
}

Result<std::vector<StepRecord>> decode_steps(const Json& json) {
  RECLO_ASSIGN_OR_RETURN(const Json* array, json_array(json, "steps"));
  std::vector<StepRecord> out;
  for (const Json& entry : *array) {
    if (out.size() == kStepsKeptMax) break;
    StepRecord step;
    RECLO_ASSIGN_OR_RETURN(step.name, json_get<std::string>(entry, "name"));
    RECLO_ASSIGN_OR_RETURN(step.run, json_get<uint32_t>(entry, "run"));
    RECLO_ASSIGN_OR_RETURN(step.started_ms, json_get<int64_t>(entry, "started_ms"));
    RECLO_ASSIGN_OR_RETURN(step.finished_ms, json_get<int64_t>(entry, "finished_ms"));
    out.push_back(std::move(step));
  }
  return out;
}

Status decode_identity(const Json& json, InstanceRecord& out) {
  RECLO_ASSIGN_OR_RETURN(out.id, json_get<std::string>(json, "id"));
  RECLO_ASSIGN_OR_RETURN(out.name, json_get<std::string>(json, "name"));
  RECLO_ASSIGN_OR_RETURN(out.server, json_get<std::string>(json, "server"));
  RECLO_ASSIGN_OR_RETURN(out.point, json_get<std::string>(json, "point"));
  RECLO_ASSIGN_OR_RETURN(const std::string point_time, json_get<std::string>(json, "point_time"));
  RECLO_ASSIGN_OR_RETURN(out.point_time, parse_time(point_time));
  RECLO_ASSIGN_OR_RETURN(const std::string created_at, json_get<std::string>(json, "created_at"));
  RECLO_ASSIGN_OR_RETURN(out.created_at, parse_time(created_at));
  RECLO_ASSIGN_OR_RETURN(const std::string state, json_get<std::string>(json, "state"));
  RECLO_ASSIGN_OR_RETURN(out.state, from_name<InstanceState>(kStateNames, state));
  RECLO_ASSIGN_OR_RETURN(out.problem, json_get<std::string>(json, "problem"));
  return {};
}

Status decode_machine(const Json& json, InstanceRecord& out) {
  RECLO_ASSIGN_OR_RETURN(const std::string accelerator, json_get<std::string>(json, "accelerator"));
  RECLO_ASSIGN_OR_RETURN(out.accelerator, choose_accelerator(accelerator, {true, true}));
  RECLO_ASSIGN_OR_RETURN(out.memory_bytes, json_get<uint64_t>(json, "memory_bytes"));
  RECLO_ASSIGN_OR_RETURN(out.cpus, json_get<uint32_t>(json, "cpus"));
  RECLO_ASSIGN_OR_RETURN(const std::string firmware, json_get<std::string>(json, "firmware"));
  RECLO_ASSIGN_OR_RETURN(out.firmware, parse_firmware(firmware));
  RECLO_ASSIGN_OR_RETURN(const std::string disk_bus, json_get<std::string>(json, "disk_bus"));
  RECLO_ASSIGN_OR_RETURN(out.disk_bus, parse_disk_bus(disk_bus));
  RECLO_ASSIGN_OR_RETURN(const std::string display, json_get<std::string>(json, "display"));
  RECLO_ASSIGN_OR_RETURN(out.display, parse_display(display));
  RECLO_ASSIGN_OR_RETURN(out.isolated, json_get<bool>(json, "isolated"));
  RECLO_ASSIGN_OR_RETURN(const Json* forwards, json_array(json, "forwards"));
  for (const Json& entry : *forwards) {
    if (!entry.is_string()) return Error(Code::kCorruption, "a forward that is not text");
    RECLO_ASSIGN_OR_RETURN(Forward forward, parse_forward(entry.get_ref<const std::string&>()));
    out.forwards.push_back(std::move(forward));
  }
  RECLO_ASSIGN_OR_RETURN(out.vnc_address, json_get<std::string>(json, "vnc"));
  RECLO_ASSIGN_OR_RETURN(out.wait_for, json_get<std::string>(json, "wait_for"));
  RECLO_ASSIGN_OR_RETURN(out.wait_timeout_ms, json_get<int64_t>(json, "wait_timeout_ms"));
  return {};
}

Status decode_run(const Json& json, InstanceRecord& out) {
  RECLO_ASSIGN_OR_RETURN(const std::string hydration, json_get<std::string>(json, "hydration"));
  RECLO_ASSIGN_OR_RETURN(out.hydration, from_name<HydrationState>(kHydrationNames, hydration));
  RECLO_ASSIGN_OR_RETURN(out.hydration_limit_bytes_per_second,
                         json_get<uint64_t>(json, "hydration_limit_bytes_per_second"));
  RECLO_ASSIGN_OR_RETURN(const Json* source, json_object(json, "source"));
  for (const auto& [key, value] : source->items()) {
    if (!value.is_string()) return Error(Code::kCorruption, "a source value that is not text");
    out.source[key] = value.get<std::string>();
  }
  RECLO_ASSIGN_OR_RETURN(out.run_dir, json_get<std::string>(json, "run_dir"));
  RECLO_ASSIGN_OR_RETURN(out.machine_process, decode_process(json, "machine_process"));
  RECLO_ASSIGN_OR_RETURN(out.supervisor_process, decode_process(json, "supervisor_process"));
  RECLO_ASSIGN_OR_RETURN(out.disks, decode_disks(json));
  RECLO_ASSIGN_OR_RETURN(out.run, json_get<uint32_t>(json, "run"));
  RECLO_ASSIGN_OR_RETURN(out.steps, decode_steps(json));
  RECLO_ASSIGN_OR_RETURN(out.rto_ms, decode_optional_ms(json, "rto_ms"));
  RECLO_ASSIGN_OR_RETURN(out.rpo_ms, decode_optional_ms(json, "rpo_ms"));
  return {};
}

Json encode_step(const StepRecord& step) {
  return {{"name", step.name},
          {"run", step.run},
          {"started_ms", step.started_ms},
          {"finished_ms", step.finished_ms}};
}

Json running_pid(const ProcessRef& process) {
  return is_running(process) ? Json(process.pid) : Json(nullptr);
}

}  // namespace

std::string_view state_name(InstanceState state) { return kStateNames[static_cast<size_t>(state)]; }
std::string_view hydration_name(HydrationState state) {
  return kHydrationNames[static_cast<size_t>(state)];
}

std::string encode_instance(const InstanceRecord& record) {
  Json forwards = Json::array();
  for (const Forward& forward : record.forwards) forwards.push_back(format_forward(forward));
  Json disks = Json::array();
  for (const DiskRecord& disk : record.disks)
    disks.push_back({{"index", disk.index},
                     {"size_bytes", disk.size_bytes},
                     {"export", encode_process(disk.export_process)},
                     {"hydrated_bytes", disk.hydrated_bytes},
                     {"hydration_total_bytes", disk.hydration_total_bytes},
                     {"hydrated", disk.hydrated}});
  Json steps = Json::array();
  for (const StepRecord& step : record.steps) steps.push_back(encode_step(step));
  const Json json{{"version", kInstanceVersion},
                  {"id", record.id},
                  {"name", record.name},
                  {"server", record.server},
                  {"point", record.point},
                  {"point_time", format_time(record.point_time)},
                  {"created_at", format_time(record.created_at)},
                  {"state", state_name(record.state)},
                  {"problem", record.problem},
                  {"accelerator", accelerator_name(record.accelerator)},
                  {"memory_bytes", record.memory_bytes},
                  {"cpus", record.cpus},
                  {"firmware", firmware_name(record.firmware)},
                  {"disk_bus", disk_bus_name(record.disk_bus)},
                  {"display", display_name(record.display)},
                  {"isolated", record.isolated},
                  {"forwards", forwards},
                  {"vnc", record.vnc_address},
                  {"wait_for", record.wait_for},
                  {"wait_timeout_ms", record.wait_timeout_ms},
                  {"hydration", hydration_name(record.hydration)},
                  {"hydration_limit_bytes_per_second", record.hydration_limit_bytes_per_second},
                  {"source", Json(record.source)},
                  {"run_dir", record.run_dir},
                  {"machine_process", encode_process(record.machine_process)},
                  {"supervisor_process", encode_process(record.supervisor_process)},
                  {"disks", disks},
                  {"run", record.run},
                  {"steps", steps},
                  {"rto_ms", optional_ms(record.rto_ms)},
                  {"rpo_ms", optional_ms(record.rpo_ms)}};
  // Bytes that are not UTF-8 (a guest's words in `problem`) become U+FFFD instead of an exception.
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Result<InstanceRecord> decode_instance(std::string_view text) {
  RECLO_ASSIGN_OR_RETURN(const Json json, parse_json(text, "instance.json", kInstanceSizeBytesMax));
  RECLO_ASSIGN_OR_RETURN_WITH(const uint32_t version, json_get<uint32_t>(json, "version"),
                              "instance.json");
  if (version != kInstanceVersion)
    return Error(Code::kUnsupported,
                 fmt::format("instance.json has version {}, this ReClo knows version {}", version,
                             kInstanceVersion));
  InstanceRecord out;
  RECLO_TRY_WITH(decode_identity(json, out), "instance.json");
  RECLO_TRY_WITH(decode_machine(json, out), "instance.json");
  RECLO_TRY_WITH(decode_run(json, out), "instance.json");
  return out;
}

Json describe_instance(const InstanceRecord& record) {
  Json addresses = Json::array();
  for (const Forward& forward : record.forwards)
    addresses.push_back(
        fmt::format("{}:{} -> {}", forward.host_address, forward.host_port, forward.guest_port));
  Json steps = Json::array();
  for (const StepRecord& step : record.steps) {
    Json entry = encode_step(step);
    entry["duration_ms"] = step.finished_ms - step.started_ms;
    steps.push_back(std::move(entry));
  }
  Json disks = Json::array();
  uint64_t done_bytes = 0;
  uint64_t total_bytes = 0;
  for (const DiskRecord& disk : record.disks) {
    done_bytes += disk.hydrated ? disk.size_bytes : disk.hydrated_bytes;
    total_bytes += disk.size_bytes;
    disks.push_back({{"index", disk.index},
                     {"size_bytes", disk.size_bytes},
                     {"hydrated", disk.hydrated},
                     {"hydrated_bytes", disk.hydrated ? disk.size_bytes : disk.hydrated_bytes},
                     {"export_pid", running_pid(disk.export_process)}});
  }
  return {{"id", record.id},
          {"name", record.name},
          {"server", record.server},
          {"point", record.point},
          {"point_time", format_time(record.point_time)},
          {"created_at", format_time(record.created_at)},
          {"state", state_name(record.state)},
          {"problem", record.problem},
          {"target", "qemu"},
          {"running", is_running(record.machine_process)},
          {"accelerator", accelerator_name(record.accelerator)},
          {"firmware", firmware_name(record.firmware)},
          {"memory_bytes", record.memory_bytes},
          {"cpus", record.cpus},
          {"isolated", record.isolated},
          {"pid", running_pid(record.machine_process)},
          {"supervisor_pid", running_pid(record.supervisor_process)},
          {"addresses", addresses},
          {"vnc", record.vnc_address},
          {"rto_ms", optional_ms(record.rto_ms)},
          {"rpo_ms", optional_ms(record.rpo_ms)},
          {"steps", steps},
          {"hydration",
           {{"state", hydration_name(record.hydration)},
            {"done_bytes", done_bytes},
            {"total_bytes", total_bytes}}},
          {"disks", disks}};
}

}  // namespace reclo::recovery
