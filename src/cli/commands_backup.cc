// backup: disks in, recovery point out.
#include <fmt/format.h>
#include <limits.h>
#include <stdlib.h>

#include "backup/backup.h"
#include "base/log.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cli/point_json.h"
#include "recovery/clone_marker.h"

namespace reclo::cli {
namespace {

// Disks are known by their absolute path, so that a backup from another folder finds them again.
std::string absolute_path(const std::string& path) {
  char* resolved = ::realpath(path.c_str(), nullptr);
  if (resolved == nullptr) return path;  // open_source() says what is wrong with it
  // A device keeps the stable name it was given (/dev/disk/by-id/…); its target may change.
  std::string out = path.starts_with("/dev/") ? path : std::string(resolved);
  ::free(resolved);
  return out;
}

Json volumes_json(const std::vector<disk::Allocation>& allocations) {
  Json json = Json::array();
  for (size_t i = 0; i < allocations.size(); ++i)
    for (const disk::Volume& volume : allocations[i].volumes)
      json.push_back({{"disk", i},
                      {"offset_bytes", volume.range.offset_bytes},
                      {"size_bytes", volume.range.size_bytes},
                      {"kind", volume.kind},
                      {"label", volume.label},
                      {"uuid", volume.uuid},
                      {"skipped_bytes", volume.free_bytes},
                      {"note", volume.note}});
  return json;
}

}  // namespace

Status run_backup_command(Context& context, const BackupArgs& args) {
  RECLO_ASSIGN_OR_RETURN(const OpenRepository open, open_repository(context));
  backup::BackupOptions options;
  options.identity = recovery::look_at_this_machine(recovery::IdentityPlaces::from_environment());
  options.identity.branch = !args.branch.empty();
  options.identity.same_server = args.same_server;
  options.server = args.server;
  if (args.branch == "auto") {
    options.server = backup::branch_name(args.server, options.identity);
  } else if (!args.branch.empty()) {
    options.server = args.branch;
  }
  for (const std::string& disk : args.disks) options.disks.push_back(absolute_path(disk));
  options.state_directory = context.options.state_directory;
  options.full = args.full;
  options.compression_level = args.compression_level;
  options.workers = args.workers;
  options.upload_threads = args.upload_threads;
  RECLO_ASSIGN_OR_RETURN(
      const backup::BackupReport report,
      backup::run_backup(*open.repository, options, *context.progress, context.cancel));
  context.progress.reset();  // ends the bar before the result is printed
  for (const std::string& warning : report.warnings) log_warning("{}", warning);
  const repo::PointRecord& record = report.point.record;
  if (context.options.json) {
    Json json = point_json(record);
    json["resumed"] = report.resumed;
    json["warnings"] = report.warnings;
    json["volumes"] = volumes_json(report.allocations);
    return print_json(json);
  }
  uint64_t fresh = 0;
  for (const repo::DiskRecord& disk : record.disks) fresh += disk.new_bytes;
  return print(
      fmt::format("Recovery point {} of {}: {}, {} new, {} uploaded, {}\n", record.id.short_hex(),
                  record.server, repo::point_kind_name(record.kind), format_bytes(fresh),
                  format_bytes(record.statistics.uploaded_bytes),
                  format_duration(std::chrono::milliseconds(record.statistics.duration_ms))));
}

}  // namespace reclo::cli
