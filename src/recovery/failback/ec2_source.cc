#include "recovery/failback/ec2_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/kill_point.h"
#include "base/log.h"
#include "recovery/failback/delta_writer.h"

namespace reclo::recovery {
namespace {

constexpr const char* kFailbackTag = "reclo-failback";
constexpr const char* kRoundTag = "reclo-round";
constexpr const char* kDiskTag = "reclo-disk";
constexpr auto kSnapshotPatience = std::chrono::hours(2);
constexpr auto kStopPatience = std::chrono::minutes(15);
constexpr auto kPollInterval = std::chrono::seconds(1);

int64_t unix_ms() { return wall_now().time_since_epoch().count(); }

int64_t ms_of(const Stopwatch& watch) { return static_cast<int64_t>(watch.seconds() * 1000); }

cloud::Tags tags_of(const RoundJob& job) {
  const FailbackRecord& record = job.record;
  return {{"Name", fmt::format("reclo failback of {}", record.server)},
          {"reclo-repository", record.repository.hex()},
          {"reclo-machine", record.machine.hex()},
          {"reclo-server", record.server},
          {"reclo-role", "failback"},
          {kFailbackTag, record.id},
          {kRoundTag, std::to_string(record.round)},
          {kDiskTag, std::to_string(job.disk.index)}};
}

bool is_lost(const Error& error) {
  return error.code() == Code::kNotFound || error.code() == Code::kInvalidArgument;
}

}  // namespace

Result<cloud::SnapshotId> Ec2FailbackSource::find_or_create(const RoundJob& job,
                                                            const CancelToken& cancel) {
  const cloud::Tags tags = tags_of(job);
  cloud::Filters ours;
  for (const auto& [name, value] : tags)
    if (name == kFailbackTag || name == kRoundTag || name == kDiskTag)
      ours.push_back({"tag:" + name, {value}});
  RECLO_ASSIGN_OR_RETURN(const auto found, ec2_.snapshots(ours, cancel));
  for (const cloud::Snapshot& snapshot : found) {
    const auto& gone = job.record.leftovers;
    const bool given_up = std::find(gone.begin(), gone.end(), snapshot.id) != gone.end();
    if (snapshot.state != "error" && !given_up) return snapshot.id;
  }
  return ec2_.create_snapshot(job.disk.volume, tags, cancel);
}

// The round's snapshot, completed. One that was lost is replaced; the target may hold parts of it,
// so that every block is compared then.
Status Ec2FailbackSource::take_snapshot(const RoundJob& job, ProgressSink& progress,
                                        const CancelToken& cancel) {
  FailbackDisk& disk = job.disk;
  if (disk.pending.empty()) {
    // The time before: what is written while it is made may or may not be in it.
    disk.pending_created_ms = unix_ms();
    RECLO_ASSIGN_OR_RETURN(disk.pending, find_or_create(job, cancel));
    RECLO_KILL_POINT("failback.snapshot_created");
    RECLO_TRY(job.save());
    RECLO_KILL_POINT("failback.snapshot_noted");
  }
  progress.note(fmt::format("disk {}: waiting for {}", disk.index, disk.pending.text()));
  const Status completed = ec2_.wait_for_snapshot(disk.pending, kSnapshotPatience, cancel);
  if (completed.ok()) return {};
  const Code code = completed.error().code();
  if (code != Code::kIo && code != Code::kTimeout) return completed;
  const auto still = ec2_.snapshot(disk.pending, cancel);
  const bool lost = still.ok() ? still->state == "error" : still.error().code() == Code::kNotFound;
  if (!lost) return completed;
  job.record.leftovers.push_back(std::exchange(disk.pending, {}));
  disk.everything = true;
  RECLO_TRY(job.save());
  return Error(Code::kUnavailable,
               fmt::format("{}; run the same command again: it makes another one, and then "
                           "compares every block",
                           completed.error().message()));
}

Result<FailbackRound> Ec2FailbackSource::write_changes(const RoundJob& job, ProgressSink& progress,
                                                       const CancelToken& cancel) {
  FailbackDisk& disk = job.disk;
  DeltaJob delta;
  if (!disk.everything) delta.from = disk.held;
  delta.to = disk.pending;
  if (!disk.everything) delta.extra_blocks = disk.extra_blocks;
  delta.disk_size_bytes = disk.size_bytes;
  delta.remember = job.last;
  const Stopwatch watch;
  auto written = write_delta(ebs_, delta, job.sink, progress, cancel);
  if (!written.ok() && delta.from && is_lost(written.error())) {
    // Whoever deleted the snapshot that the target holds cost us the way to tell what changed.
    job.warnings.push_back(
        fmt::format("disk {}: {} cannot be compared with {} ({}): every block "
                    "is fetched",
                    disk.index, disk.held.text(), disk.pending.text(), written.error().message()));
    disk.everything = true;
    RECLO_TRY(job.save());
    delta.from.reset();
    delta.extra_blocks.clear();
    written = write_delta(ebs_, delta, job.sink, progress, cancel);
  }
  if (!written.ok()) return std::move(written).error();
  FailbackRound round;
  round.blocks = written->blocks;
  round.bytes = written->bytes;
  round.write_ms = ms_of(watch);
  if (job.last) {
    VerifyJob verify;
    verify.snapshot = disk.pending;
    verify.disk_size_bytes = disk.size_bytes;
    const auto compared = verify_blocks(ebs_, verify, written->written, job.sink, cancel);
    if (!compared.ok() && compared.error().code() == Code::kCorruption) {
      // Somebody wrote to the target, or the disk lies: what it holds is not known any more.
      disk.everything = true;
      RECLO_TRY(job.save());
      return Error(
          Code::kCorruption,
          compared.error().message() + ": run the same command again, and every block is fetched");
    }
    if (!compared.ok()) return compared.error();
    job.verified += *compared;
  }
  return round;
}

Result<FailbackRound> Ec2FailbackSource::bring_home(const RoundJob& job, ProgressSink& progress,
                                                    const CancelToken& cancel) {
  FailbackDisk& disk = job.disk;
  const Stopwatch watch;
  RECLO_TRY(take_snapshot(job, progress, cancel));
  const int64_t snapshot_ms = ms_of(watch);
  RECLO_ASSIGN_OR_RETURN(FailbackRound round, write_changes(job, progress, cancel));
  round.snapshot_ms = snapshot_ms;
  if (disk.held_created_ms > 0) round.since_ms = disk.pending_created_ms - disk.held_created_ms;
  // Not saved here: the caller notes the round together with what the target now holds.
  if (disk.held_created_ms > 0) job.record.leftovers.push_back(disk.held);
  disk.held = std::exchange(disk.pending, {});
  disk.held_created_ms = std::exchange(disk.pending_created_ms, 0);
  disk.extra_blocks.clear();
  disk.everything = false;
  return round;
}

Status Ec2FailbackSource::stop(const FailbackRecord& record, ProgressSink& progress,
                               const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const auto id, cloud::InstanceId::parse(record.instance));
  const Stopwatch watch;
  for (bool asked = false;;) {
    RECLO_ASSIGN_OR_RETURN(const cloud::Instance instance, ec2_.instance(id, cancel));
    if (instance.state == "stopped") return {};
    if (instance.state == "terminated" || instance.state == "shutting-down")
      return Error(Code::kNotFound,
                   fmt::format("{} is {}: what it wrote since the last round is gone with it. The "
                               "target holds that round; `reclo failback abandon {}` leaves it so",
                               id.text(), instance.state, record.id));
    if (!asked && instance.state != "stopping") {
      progress.note(fmt::format("stopping {}", id.text()));
      RECLO_TRY(ec2_.stop_instance(id, cancel));
      asked = true;
      continue;
    }
    if (watch.elapsed() > kStopPatience)
      return Error(Code::kTimeout, fmt::format("{} is still {}", id.text(), instance.state));
    RECLO_TRY(cancel.sleep_for(kPollInterval));
  }
}

Status Ec2FailbackSource::clean(FailbackRecord& record, bool all,
                                const std::function<Status()>& save, const CancelToken& cancel) {
  std::set<std::string> kept;
  if (!all)
    for (const FailbackDisk& disk : record.disks) {
      kept.insert(disk.held.text());
      kept.insert(disk.pending.text());
    }
  for (const cloud::SnapshotId& snapshot : record.leftovers)
    if (!kept.contains(snapshot.text())) RECLO_TRY(ec2_.delete_snapshot(snapshot, cancel));
  RECLO_KILL_POINT("failback.old_deleted");
  // Also those that were made and never noted.
  RECLO_ASSIGN_OR_RETURN(
      const auto found,
      ec2_.snapshots({{fmt::format("tag:{}", kFailbackTag), {record.id}}}, cancel));
  for (const cloud::Snapshot& snapshot : found)
    if (!kept.contains(snapshot.id.text())) RECLO_TRY(ec2_.delete_snapshot(snapshot.id, cancel));
  if (record.leftovers.empty()) return {};
  record.leftovers.clear();
  return save();
}

Status find_ec2_disks(cloud::Ec2Client& ec2, const cloud::Instance& instance,
                      const std::map<uint32_t, cloud::SnapshotId>& snapshots,
                      FailbackRecord& record, const CancelToken& cancel) {
  std::vector<cloud::DiskMapping> mappings;
  RECLO_ASSIGN_OR_RETURN(const auto images,
                         ec2.images({{"image-id", {instance.image.text()}}}, cancel));
  if (!images.empty()) mappings = images.front().disks;
  if (mappings.empty() && snapshots.size() < record.disks.size())
    return Error(Code::kNotFound,
                 fmt::format("the image {} that {} was started from is gone: name the snapshots "
                             "by --snapshot snap-…=DISK",
                             instance.image.text(), instance.id.text()));
  // In the order of the disks: /dev/xvda … /dev/xvdz, /dev/xvdba …
  std::vector<std::pair<std::string, cloud::VolumeId>> volumes(instance.volumes.begin(),
                                                               instance.volumes.end());
  std::sort(volumes.begin(), volumes.end(), [](const auto& a, const auto& b) {
    return std::make_pair(a.first.size(), a.first) < std::make_pair(b.first.size(), b.first);
  });
  if (volumes.size() < record.disks.size())
    return Error(Code::kInvalidArgument,
                 fmt::format("{} has {} volumes, the recovery point {} disks", instance.id.text(),
                             volumes.size(), record.disks.size()));
  for (FailbackDisk& disk : record.disks) {
    const auto given = snapshots.find(disk.index);
    if (given == snapshots.end() && disk.index >= mappings.size())
      return Error(Code::kInvalidArgument,
                   fmt::format("the image {} has no disk {}", instance.image.text(), disk.index));
    disk.held = given != snapshots.end() ? given->second : mappings[disk.index].snapshot;
    disk.volume = volumes[disk.index].second;
    if (disk.index >= mappings.size()) continue;
    const auto named = instance.volumes.find(mappings[disk.index].device_name);
    if (named != instance.volumes.end()) disk.volume = named->second;
  }
  return {};
}

}  // namespace reclo::recovery
