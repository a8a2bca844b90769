#include "cli/point_json.h"

#include <fmt/format.h>

#include "base/units.h"
#include "cli/terminal.h"

namespace reclo::cli {
namespace {

struct Totals {
  uint64_t logical_bytes = 0;
  uint64_t allocated_bytes = 0;
  uint64_t read_bytes = 0;
  uint64_t new_bytes = 0;
};

Totals totals_of(const repo::PointRecord& record) {
  Totals totals;
  for (const repo::DiskRecord& disk : record.disks) {
    totals.logical_bytes += disk.size_bytes;
    totals.allocated_bytes += disk.allocated_bytes;
    totals.read_bytes += disk.read_bytes;
    totals.new_bytes += disk.new_bytes;
  }
  return totals;
}

}  // namespace

Json point_json(const repo::PointRecord& record) {
  const Totals totals = totals_of(record);
  Json disks = Json::array();
  for (size_t i = 0; i < record.disks.size(); ++i) {
    const repo::DiskRecord& disk = record.disks[i];
    disks.push_back({{"index", i},
                     {"name", disk.name},
                     {"format", disk.format},
                     {"size_bytes", disk.size_bytes},
                     {"allocated_bytes", disk.allocated_bytes},
                     {"read_bytes", disk.read_bytes},
                     {"new_bytes", disk.new_bytes}});
  }
  Json stages = Json::array();
  for (const repo::StageTime& stage : record.statistics.stages)
    stages.push_back({{"name", stage.name}, {"busy_ms", stage.busy_ms}});
  Json json = {{"id", record.id.hex()},
               {"server", record.server},
               {"machine", record.machine.hex()},
               {"sequence", record.sequence},
               {"kind", repo::point_kind_name(record.kind)},
               {"consistency", repo::consistency_name(record.consistency)},
               {"started", format_time(record.started)},
               {"taken", format_time(record.taken)},
               {"finished", format_time(record.finished)},
               {"previous", nullptr},
               {"program_version", record.program_version},
               {"logical_bytes", totals.logical_bytes},
               {"allocated_bytes", totals.allocated_bytes},
               {"read_bytes", totals.read_bytes},
               {"new_bytes", totals.new_bytes},
               {"stored_bytes", record.statistics.stored_bytes},
               {"map_bytes", record.statistics.map_bytes},
               {"uploaded_bytes", record.statistics.uploaded_bytes},
               {"put_requests", record.statistics.put_requests},
               {"duration_ms", record.statistics.duration_ms},
               {"slowest_stage", record.statistics.slowest_stage},
               {"stages", stages},
               {"disks", disks}};
  if (record.previous) json["previous"] = record.previous->hex();
  return json;
}

std::string point_text(const repo::PointRecord& record) {
  const Totals totals = totals_of(record);
  const auto duration = std::chrono::milliseconds(record.statistics.duration_ms);
  std::string out = fmt::format(
      "Recovery point {}\n"
      "  server       {} (point {} of it)\n"
      "  taken        {}\n"
      "  kind         {}, {} consistent\n"
      "  logical      {}\n"
      "  allocated    {}\n"
      "  read         {}\n"
      "  new          {}\n"
      "  stored       {} (+ {} of map)\n"
      "  uploaded     {} in {} packs\n"
      "  duration     {}\n",
      record.id.hex(), record.server, record.sequence, format_time(record.taken),
      repo::point_kind_name(record.kind), repo::consistency_name(record.consistency),
      format_bytes(totals.logical_bytes), format_bytes(totals.allocated_bytes),
      format_bytes(totals.read_bytes), format_bytes(totals.new_bytes),
      format_bytes(record.statistics.stored_bytes), format_bytes(record.statistics.map_bytes),
      format_bytes(record.statistics.uploaded_bytes), record.statistics.put_requests,
      format_duration(duration));
  for (const repo::StageTime& stage : record.statistics.stages)
    out += fmt::format("    {:<10} {}{}\n", stage.name,
                       format_duration(std::chrono::milliseconds(stage.busy_ms)),
                       stage.name == record.statistics.slowest_stage ? "  (most of the time)" : "");
  std::vector<std::vector<std::string>> rows{
      {"  DISK", "SIZE", "ALLOCATED", "NEW", "FORMAT", "NAME"}};
  for (size_t i = 0; i < record.disks.size(); ++i) {
    const repo::DiskRecord& disk = record.disks[i];
    rows.push_back({fmt::format("  {}", i), format_bytes(disk.size_bytes),
                    format_bytes(disk.allocated_bytes), format_bytes(disk.new_bytes), disk.format,
                    disk.name});
  }
  return out + format_table(rows);
}

}  // namespace reclo::cli
