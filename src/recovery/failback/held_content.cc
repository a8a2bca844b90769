#include "recovery/failback/held_content.h"

#include <fmt/format.h>

#include <map>
#include <vector>

#include "base/log.h"
#include "recovery/ec2/failover_store.h"
#include "recovery/ec2/standby.h"

namespace reclo::recovery {
namespace {

// The blocks that are not the point's own, by snapshot; of one that was not prepared, none.
using Overlays = std::map<std::string, std::vector<BlockSpan>>;

Result<Overlays> known_overlays(const std::string& state_directory, const FailbackRecord& record) {
  Overlays out;
  RECLO_ASSIGN_OR_RETURN(const auto standby,
                         load_standby(state_directory, record.repository.hex(), record.machine));
  std::vector<Standby> standbys;
  if (standby) standbys = standby->old;
  if (standby && standby->current) standbys.push_back(*standby->current);
  for (const Standby& one : standbys)
    if (one.point == record.point)
      for (const StandbyDisk& disk : one.disks) out[disk.snapshot.text()] = disk.overlay_spans;
  RECLO_ASSIGN_OR_RETURN(const auto failovers, Ec2InstanceStore(state_directory).list());
  for (const Ec2Instance& one : failovers)
    if (one.point == record.point)
      for (const FailoverDisk& disk : one.disks) out[disk.snapshot.text()] = disk.overlay_spans;
  return out;
}

}  // namespace

Status describe_held_content(const std::string& state_directory, FailbackRecord& record) {
  RECLO_ASSIGN_OR_RETURN(const Overlays overlays, known_overlays(state_directory, record));
  bool unknown = false;
  for (FailbackDisk& disk : record.disks) {
    const auto known = overlays.find(disk.held.text());
    disk.everything = known == overlays.end();
    if (!disk.everything) disk.extra_blocks = known->second;
    unknown = unknown || disk.everything;
    if (!disk.extra_blocks.empty()) record.prepared = true;
    if (disk.everything)
      log_warning(
          "no standby of this state folder tells what {} holds: every block of disk {} is fetched",
          disk.held.text(), disk.index);
  }
  if (unknown) record.prepared.reset();
  return {};
}

}  // namespace reclo::recovery
