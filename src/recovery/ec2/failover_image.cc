#include "recovery/ec2/failover_image.h"

#include "base/kill_point.h"
#include "recovery/ec2/device_name.h"
#include "recovery/ec2/snapshot_writer.h"

namespace reclo::recovery {
namespace {

constexpr auto kCompletionPatience = std::chrono::minutes(30);
constexpr auto kAvailablePatience = std::chrono::minutes(10);
constexpr auto kPollInterval = std::chrono::seconds(1);
constexpr uint32_t kThreads = 32;
constexpr int kTriesMax = 2;  // of a snapshot that ends in an error, in one run

std::string log_path(const FailoverBench& bench, const FailoverDisk& disk) {
  return os::join_path(bench.store.folder(bench.record.id),
                       fmt::format("disk-{}.{}.digests", disk.index, disk.attempt));
}

Status start_snapshot(FailoverBench& bench, FailoverDisk& disk) {
  const Ec2Instance& record = bench.record;
  cloud::StartSnapshot start;
  start.volume_size_gib = static_cast<uint32_t>(volume_size_gib(disk.size_bytes));
  start.description = fmt::format("ReClo: disk {} of {} at {}", disk.index, record.server,
                                  format_time(record.point_time));
  start.tags = bench.tags();
  start.client_token = bench.client_token(fmt::format("disk/{}/{}", disk.index, disk.attempt));
  disk.overlay_spans = block_spans(bench.source->overlay_ranges(disk.index));
  RECLO_ASSIGN_OR_RETURN(disk.snapshot, bench.cloud.ebs->start(start, bench.cancel));
  RECLO_KILL_POINT("failover.snapshot_started");
  return bench.save();
}

// A snapshot that takes no more blocks is given up, and another one begun under another token.
Status begin_anew(FailoverBench& bench, FailoverDisk& disk) {
  bench.warnings.push_back(
      fmt::format("snapshot {} of disk {} is of no use: all of it is put again",
                  disk.snapshot.text(), disk.index));
  RECLO_TRY(bench.cloud.ec2->delete_snapshot(disk.snapshot, bench.cancel));
  RECLO_TRY(os::remove_file(log_path(bench, disk)));
  disk.snapshot = {};
  disk.completed = false;
  ++disk.attempt;
  return bench.save();
}

Status put_and_wait(FailoverBench& bench, const FailoverDisk& disk) {
  RECLO_ASSIGN_OR_RETURN(auto ranges, bench.source->data(disk.index, bench.cancel));
  for (const disk::Range& range : bench.source->overlay_ranges(disk.index)) ranges.push_back(range);
  SnapshotJob job;
  job.snapshot = disk.snapshot;
  job.spans = block_spans(ranges);
  job.disk_size_bytes = disk.size_bytes;
  job.leave_out_zeros = true;
  job.log_path = log_path(bench, disk);
  job.threads = kThreads;
  const ReadDisk read = [&](uint64_t offset, MutableByteSpan out, const CancelToken& token) {
    return bench.source->read(disk.index, offset, out, token);
  };
  RECLO_TRY(write_snapshot(*bench.cloud.ebs, job, read, bench.progress, bench.cancel));
  bench.progress.note(fmt::format("disk {}: waiting for {}", disk.index, disk.snapshot.text()));
  return bench.cloud.ec2->wait_for_snapshot(disk.snapshot, kCompletionPatience, bench.cancel);
}

Status put_disk(FailoverBench& bench, FailoverDisk& disk) {
  for (int tries = 1;; ++tries) {
    if (!disk.snapshot.empty()) {
      const auto known = bench.cloud.ec2->snapshot(disk.snapshot, bench.cancel);
      if (!known.ok() && known.error().code() != Code::kNotFound) return known.error();
      if (!known.ok() || known->state == "error") RECLO_TRY(begin_anew(bench, disk));
    }
    if (disk.snapshot.empty()) RECLO_TRY(start_snapshot(bench, disk));
    const Status put = put_and_wait(bench, disk);
    if (put.ok()) break;
    if (put.error().code() != Code::kIo || tries == kTriesMax) return put;
    const auto state = bench.cloud.ec2->snapshot(disk.snapshot, bench.cancel);
    if (!state.ok() || state->state != "error") return put;
  }
  disk.completed = true;
  RECLO_TRY(bench.save());
  RECLO_KILL_POINT("failover.snapshot_completed");
  return os::remove_file(log_path(bench, disk));
}

// What is put cold is prepared as a standby is. Blocks of two preparations must not mix: when it
// came out another one than an interrupted run's, the disks are begun anew.
Status prepare(FailoverBench& bench) {
  if (!bench.prepare || bench.record.via != FailoverVia::kCold) return {};
  RECLO_ASSIGN_OR_RETURN(bench.source, bench.prepare(bench.progress, bench.cancel));
  if (bench.record.overlay == bench.source->overlay_id()) return {};
  for (FailoverDisk& disk : bench.record.disks) {
    if (!disk.snapshot.empty()) RECLO_TRY(begin_anew(bench, disk));
    disk.completed = false;
  }
  bench.record.overlay = bench.source->overlay_id();
  return bench.save();
}

Status register_own(FailoverBench& bench) {
  Ec2Instance& record = bench.record;
  cloud::RegisterImage wanted;
  wanted.name = fmt::format("reclo-{}-{}-failover-{}", record.machine.short_hex(),
                            record.point.short_hex(), record.id);
  wanted.description =
      fmt::format("ReClo: {} at {}", record.server, format_time(record.point_time));
  wanted.boot_mode = record.boot_mode;
  record.image_disks.clear();
  for (const FailoverDisk& disk : record.disks) {
    wanted.disks.push_back({device_name(disk.index), disk.snapshot,
                            static_cast<uint32_t>(volume_size_gib(disk.size_bytes)), 0});
    record.image_disks.push_back({device_name(disk.index), disk.snapshot});
  }
  wanted.tags = bench.tags();
  auto image = bench.cloud.ec2->register_image(wanted, bench.cancel);
  if (!image.ok() && image.error().code() == Code::kAlreadyExists) {
    // An earlier run registered it and died before it could note so.
    RECLO_ASSIGN_OR_RETURN(const auto found,
                           bench.cloud.ec2->images({{"name", {wanted.name}}}, bench.cancel));
    if (found.empty()) return std::move(image).error();
    image = found.front().id;
  }
  RECLO_KILL_POINT("failover.image_registered");
  RECLO_ASSIGN_OR_RETURN(record.image, std::move(image));
  return bench.save();
}

Status await_available(FailoverBench& bench) {
  const CancelToken deadline = bench.cancel.with_timeout(kAvailablePatience);
  for (;;) {
    RECLO_ASSIGN_OR_RETURN(
        const auto found,
        bench.cloud.ec2->images({{"image-id", {bench.record.image.text()}}}, bench.cancel));
    const std::string state = found.empty() ? "not visible yet" : found.front().state;
    if (state == "available") return {};
    if (state == "failed" || state == "invalid" || state == "error")
      return Error(Code::kIo,
                   fmt::format("image {} ended as '{}'", bench.record.image.text(), state));
    RECLO_TRY_WITH(deadline.sleep_for(kPollInterval),
                   fmt::format("image {} is {}", bench.record.image.text(), state));
  }
}

}  // namespace

Status ensure_image(FailoverBench& bench) {
  Ec2Instance& record = bench.record;
  if (record.owns_image() && record.image.empty()) {
    RECLO_TRY(bench.save());  // the disks that plan_failover() laid out
    RECLO_KILL_POINT("failover.disks_noted");
    RECLO_TRY(prepare(bench));
    for (FailoverDisk& disk : record.disks) {
      if (disk.completed) continue;
      RECLO_TRY_WITH(
          record.via == FailoverVia::kImport ? import_disk(bench, disk) : put_disk(bench, disk),
          fmt::format("disk {}", disk.index));
    }
    RECLO_TRY(register_own(bench));
  }
  RECLO_TRY(await_available(bench));
  record.state = FailoverState::kImageReady;
  return bench.save();
}

Status remove_image(FailoverBench& bench) {
  Ec2Instance& record = bench.record;
  cloud::Ec2Client& ec2 = *bench.cloud.ec2;
  store::S3Client* bucket = bench.import == nullptr ? nullptr : bench.import->bucket.get();
  for (FailoverDisk& disk : record.disks)
    if (record.via == FailoverVia::kImport) RECLO_TRY(remove_import(bench, disk, bucket));
  RECLO_ASSIGN_OR_RETURN(const auto images, ec2.images(bench.made_for_it(), bench.cancel));
  for (const cloud::Image& image : images) RECLO_TRY(ec2.deregister_image(image.id, bench.cancel));
  if (record.owns_image() && !record.image.empty())
    RECLO_TRY(ec2.deregister_image(record.image, bench.cancel));
  RECLO_KILL_POINT("failover.image_removed");
  for (const FailoverDisk& disk : record.disks)
    if (!disk.snapshot.empty()) RECLO_TRY(ec2.delete_snapshot(disk.snapshot, bench.cancel));
  RECLO_ASSIGN_OR_RETURN(const auto snapshots, ec2.snapshots(bench.made_for_it(), bench.cancel));
  for (const cloud::Snapshot& snapshot : snapshots)
    RECLO_TRY(ec2.delete_snapshot(snapshot.id, bench.cancel));
  return {};
}

}  // namespace reclo::recovery
