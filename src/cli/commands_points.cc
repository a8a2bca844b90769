// points, show, diff: what is in the repository.
#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cli/point_json.h"
#include "cli/terminal.h"
#include "image/point_diff.h"
#include "repo/map_reader.h"

namespace reclo::cli {

Status run_points(Context& context, const PointsArgs& args) {
  RECLO_ASSIGN_OR_RETURN(const OpenRepository open, open_repository(context));
  std::vector<Error> problems;
  RECLO_ASSIGN_OR_RETURN(const auto machines, open.repository->machines(&problems, context.cancel));
  for (const Error& problem : problems) log_warning("{}", problem.message());
  std::vector<repo::PointRecord> records;
  for (const repo::MachineRecord& machine : machines) {
    if (!args.server.empty() && machine.name != args.server) continue;
    RECLO_ASSIGN_OR_RETURN(const repo::MachinePoints points,
                           open.repository->points(machine, context.cancel));
    for (const std::string& warning : points.warnings) log_warning("{}: {}", machine.name, warning);
    for (const repo::Point& point : points.points) records.push_back(point.record);
  }
  std::sort(records.begin(), records.end(), [](const auto& a, const auto& b) {
    return std::tie(a.server, a.taken, a.sequence) < std::tie(b.server, b.taken, b.sequence);
  });
  if (context.options.json) {
    Json json = Json::array();
    for (const repo::PointRecord& record : records) json.push_back(point_json(record));
    return print_json(json);
  }
  if (records.empty())
    return print(args.server.empty()
                     ? "No recovery points yet.\n"
                     : fmt::format("No recovery points of a server '{}'.\n", args.server));
  std::vector<std::vector<std::string>> rows{{"POINT", "SERVER", "NO", "TAKEN (UTC)", "KIND",
                                              "CONSISTENCY", "DISKS", "SIZE", "NEW", "UPLOADED"}};
  for (const repo::PointRecord& record : records) {
    uint64_t size = 0;
    uint64_t fresh = 0;
    for (const repo::DiskRecord& disk : record.disks) {
      size += disk.size_bytes;
      fresh += disk.new_bytes;
    }
    std::string taken = format_time(record.taken).substr(0, 19);
    taken[10] = ' ';
    rows.push_back({record.id.short_hex(), record.server, std::to_string(record.sequence), taken,
                    std::string(repo::point_kind_name(record.kind)),
                    std::string(repo::consistency_name(record.consistency)),
                    std::to_string(record.disks.size()), format_bytes(size), format_bytes(fresh),
                    format_bytes(record.statistics.uploaded_bytes)});
  }
  return print(format_table(rows));
}

Status run_show(Context& context, const ShowArgs& args) {
  RECLO_ASSIGN_OR_RETURN(const OpenRepository open, open_repository(context));
  RECLO_ASSIGN_OR_RETURN(const repo::FoundPoint found,
                         repo::find_point(*open.repository, args.point, context.cancel));
  if (context.options.json) return print_json(point_json(found.point.record));
  return print(point_text(found.point.record));
}

Status run_diff(Context& context, const DiffArgs& args) {
  RECLO_ASSIGN_OR_RETURN(const OpenRepository open, open_repository(context));
  RECLO_ASSIGN_OR_RETURN(const auto before,
                         repo::find_point(*open.repository, args.before, context.cancel));
  RECLO_ASSIGN_OR_RETURN(const auto after,
                         repo::find_point(*open.repository, args.after, context.cancel));
  if (before.machine.id != after.machine.id)
    return Error(Code::kInvalidArgument, "the two recovery points belong to different servers");
  RECLO_ASSIGN_OR_RETURN(crypto::SecretKey map_key,
                         map_key_for(context, *open.repository, before.machine));
  repo::SlotReader slots(*open.store, open.repository->id(), before.machine.id, std::move(map_key),
                         std::nullopt);
  repo::MapReader maps(slots);
  const auto& old_disks = before.point.record.disks;
  const auto& new_disks = after.point.record.disks;
  Json json = Json::array();
  std::string text;
  for (size_t i = 0; i < std::max(old_disks.size(), new_disks.size()); ++i) {
    RECLO_ASSIGN_OR_RETURN(
        const std::vector<disk::Range> ranges,
        image::changed_ranges(maps, i < old_disks.size() ? &old_disks[i] : nullptr,
                              i < new_disks.size() ? &new_disks[i] : nullptr, context.cancel));
    uint64_t total = 0;
    for (const disk::Range& range : ranges) {
      json.push_back(
          {{"disk", i}, {"offset_bytes", range.offset_bytes}, {"length_bytes", range.size_bytes}});
      text += fmt::format("{}  {:>16}  {:>12}\n", i, range.offset_bytes, range.size_bytes);
      total += range.size_bytes;
    }
    text +=
        fmt::format("disk {}: {} changed in {} ranges\n", i, format_bytes(total), ranges.size());
  }
  if (context.options.json) return print_json(json);
  return print("DISK  OFFSET (bytes)  LENGTH (bytes)\n" + text);
}

}  // namespace reclo::cli
