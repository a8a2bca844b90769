#include "cli/failback_text.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "base/units.h"
#include "cli/terminal.h"
#include "cloud/ebs_client.h"

namespace reclo::cli {
namespace {

using recovery::FailbackDisk;
using recovery::FailbackRecord;
using recovery::FailbackReport;
using recovery::FailbackRound;

std::string seconds_text(double seconds) {
  return format_duration(std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000)));
}

Json round_json(const FailbackRound& round) {
  return {{"number", round.number},           {"disk", round.disk},
          {"blocks", round.blocks},           {"bytes", round.bytes},
          {"snapshot_ms", round.snapshot_ms}, {"write_ms", round.write_ms}};
}

Json forecast_json(const FailbackRecord& record) {
  const auto forecast = recovery::forecast_cutover(record);
  if (!forecast) return nullptr;
  return {{"blocks", forecast->blocks}, {"seconds", forecast->seconds}};
}

// Bytes a second, over all rounds that moved something; 0: nothing was measured.
double measured_bandwidth(const FailbackRecord& record) {
  uint64_t bytes = 0;
  int64_t ms = 0;
  for (const FailbackRound& round : record.rounds) {
    bytes += round.bytes;
    ms += round.write_ms;
  }
  return ms > 0 ? static_cast<double>(bytes) * 1000 / static_cast<double>(ms) : 0;
}

double plan_bandwidth(const PlanRequest& request) {
  return request.bandwidth_bytes_per_second > 0
             ? static_cast<double>(request.bandwidth_bytes_per_second)
             : measured_bandwidth(request.record);
}

bool base_is_here(const FailbackRecord& record) {
  return std::all_of(record.disks.begin(), record.disks.end(),
                     [](const FailbackDisk& disk) { return disk.base_restored; });
}

std::string window_text(const FailbackRecord& record, double window_s) {
  const auto forecast = recovery::forecast_cutover(record);
  if (!forecast) return "How long a cutover takes is known after another round\n";
  std::string out = fmt::format("A cutover now would move about {:.0f} blocks in {}",
                                forecast->blocks, seconds_text(forecast->seconds));
  if (window_s <= 0) return out + ", and the time that the server needs to stop\n";
  return out + (forecast->seconds <= window_s
                    ? fmt::format(": it fits into {}\n", seconds_text(window_s))
                    : fmt::format(": more than {}; seed again\n", seconds_text(window_s)));
}

}  // namespace

Result<double> parse_window(const std::string& text) {
  if (text.empty()) return 0.0;
  uint32_t number = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number);
  const std::string_view unit(parsed.ptr, static_cast<size_t>(end - parsed.ptr));
  const double scale = unit.empty() || unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : 0;
  if (parsed.ec != std::errc() || scale == 0 || number == 0)
    return Error(Code::kInvalidArgument, fmt::format("'{}' is no window: 90s, 3m, 1h", text));
  return number * scale;
}

Result<uint64_t> overlay_file_bytes(const recovery::InstanceStore& instances,
                                    const std::string& instance) {
  RECLO_ASSIGN_OR_RETURN(const recovery::InstanceRecord record, instances.load(instance));
  uint64_t bytes = 0;
  for (const recovery::DiskRecord& disk : record.disks) {
    struct stat info{};
    const std::string path = instances.paths(record).overlay(disk.index);
    if (::stat(path.c_str(), &info) != 0) return Error::from_errno(errno, path);
    bytes += static_cast<uint64_t>(info.st_blocks) * 512;
  }
  return bytes;
}

Json failback_json(const FailbackRecord& record) {
  Json disks = Json::array();
  for (const FailbackDisk& disk : record.disks)
    disks.push_back({{"index", disk.index},
                     {"size_bytes", disk.size_bytes},
                     {"to", disk.target},
                     {"base_restored", disk.base_restored},
                     {"volume", disk.volume.text()},
                     {"held", disk.held.text()},
                     {"pending", disk.pending.text()}});
  Json rounds = Json::array();
  for (const FailbackRound& round : record.rounds) rounds.push_back(round_json(round));
  return {{"id", record.id},
          {"server", record.server},
          {"source", record.source},
          {"instance", record.instance},
          {"point", record.point.hex()},
          {"state", recovery::failback_state_name(record.state)},
          {"round", record.round},
          {"disks", std::move(disks)},
          {"rounds", std::move(rounds)},
          {"forecast", forecast_json(record)}};
}

Json report_json(const FailbackReport& report, double window_s) {
  Json json = failback_json(report.record);
  json["rounds"] = Json::array();
  for (const FailbackRound& round : report.rounds) json["rounds"].push_back(round_json(round));
  json["base"] = {{"fetched_bytes", report.base_fetched_bytes},
                  {"written_bytes", report.base_written_bytes},
                  {"seconds", report.base_seconds}};
  json["verified_blocks"] = report.verified_blocks;
  json["warnings"] = report.warnings;
  json["notes"] = report.notes;
  const auto forecast = recovery::forecast_cutover(report.record);
  json["fits_window"] =
      forecast && window_s > 0 ? Json(forecast->seconds <= window_s) : Json(nullptr);
  return json;
}

Json plan_json(const PlanRequest& request) {
  const double bandwidth = plan_bandwidth(request);
  const FailbackRecord& record = request.record;
  const uint64_t base = base_is_here(record) ? 0 : request.point_data_bytes;
  Json json = failback_json(record);
  json["base_bytes_max"] = base;
  json["base_blocks_max"] = divide_up(base, cloud::kEbsBlockSizeBytes);
  json["overlay_bytes"] = request.overlay_bytes;
  json["bandwidth_bytes_per_second"] = bandwidth;
  json["base_seconds_max"] =
      bandwidth > 0 ? Json(static_cast<double>(base) / bandwidth) : Json(nullptr);
  return json;
}

std::string plan_text(const PlanRequest& request) {
  const FailbackRecord& record = request.record;
  std::string out =
      fmt::format("{} comes home from {} ({})\n", record.server, record.instance, record.source);
  for (const FailbackDisk& disk : record.disks)
    out += fmt::format("  disk {}  {}  to {}\n", disk.index, format_bytes(disk.size_bytes),
                       disk.target);
  const uint64_t base = base_is_here(record) ? 0 : request.point_data_bytes;
  const double bandwidth = plan_bandwidth(request);
  out += base == 0 ? "The recovery point is here already\n"
                   : fmt::format(
                         "First the recovery point {}: at most {} in {} blocks{}; what the "
                         "target still holds is not fetched\n",
                         record.point.short_hex(), format_bytes(base),
                         divide_up(base, cloud::kEbsBlockSizeBytes),
                         bandwidth > 0 ? ", " + seconds_text(static_cast<double>(base) / bandwidth)
                                       : std::string());
  out += record.source == "qemu"
             ? fmt::format("At the cutover what the instance wrote: {} now\n",
                           format_bytes(request.overlay_bytes))
             : "Then what the instance wrote, in rounds; the first one tells how much\n";
  if (record.round > 0) out += window_text(record, request.window_s);
  if (record.id.empty()) out += "Begin with `reclo failback seed` and the same options\n";
  return out;
}

std::string seed_text(const FailbackReport& report, double window_s) {
  std::string out;
  if (report.base_seconds > 0)
    out += fmt::format("Recovery point {}: {} fetched, {} written, {}\n",
                       report.record.point.short_hex(), format_bytes(report.base_fetched_bytes),
                       format_bytes(report.base_written_bytes), seconds_text(report.base_seconds));
  for (const FailbackRound& round : report.rounds)
    out += fmt::format("Round {}, disk {}: {} blocks ({}) in {}, {} of it for the snapshot\n",
                       round.number, round.disk, round.blocks, format_bytes(round.bytes),
                       seconds_text(static_cast<double>(round.snapshot_ms + round.write_ms) / 1000),
                       seconds_text(static_cast<double>(round.snapshot_ms) / 1000));
  if (report.record.source == "ec2") out += window_text(report.record, window_s);
  return out + fmt::format("Seed again, or `reclo failback cutover {}`\n", report.record.id);
}

std::string cutover_text(const FailbackReport& report) {
  const FailbackRecord& record = report.record;
  std::string out;
  for (const FailbackRound& round : report.rounds)
    out +=
        fmt::format("Last round, disk {}: {} blocks ({}) in {}\n", round.disk, round.blocks,
                    format_bytes(round.bytes),
                    seconds_text(static_cast<double>(round.snapshot_ms + round.write_ms) / 1000));
  out += fmt::format("{} blocks were read back and compared\n", report.verified_blocks);
  for (const std::string& note : report.notes) out += note + "\n";
  out += fmt::format("{} is home:", record.server);
  for (const FailbackDisk& disk : record.disks) out += " " + disk.target;
  out += fmt::format(
      "\nNext: start the server from it, look at it, and take a backup.\n{} is stopped and keeps "
      "its disks. When the server is well: {}\n",
      record.instance,
      record.source == "ec2" ? "terminate it in EC2"
                             : fmt::format("`reclo stop {} --delete`", record.instance));
  return out;
}

std::string status_text(const std::vector<FailbackRecord>& records) {
  if (records.empty()) return "No server is on its way home.\n";
  std::vector<std::vector<std::string>> rows{
      {"FAILBACK", "SERVER", "FROM", "STATE", "ROUNDS", "CUTOVER NOW"}};
  for (const FailbackRecord& record : records) {
    const auto forecast = recovery::forecast_cutover(record);
    rows.push_back({record.id, record.server, record.instance,
                    std::string(recovery::failback_state_name(record.state)),
                    std::to_string(record.round),
                    forecast ? seconds_text(forecast->seconds) : "-"});
  }
  return format_table(rows);
}

}  // namespace reclo::cli
