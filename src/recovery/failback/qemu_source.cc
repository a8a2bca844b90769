#include "recovery/failback/qemu_source.h"

#include <fmt/format.h>

#include "base/kill_point.h"
#include "base/time.h"
#include "recovery/overlay.h"

namespace reclo::recovery {

std::string QemuFailbackSource::overlay_of(const FailbackDisk& disk) const {
  return instances_.paths(instance_).overlay(disk.index);
}

Result<bool> QemuFailbackSource::needs_base(const FailbackDisk& disk) {
  RECLO_ASSIGN_OR_RETURN(const OverlayFacts facts, read_overlay(overlay_of(disk)));
  if (facts.size_bytes != disk.size_bytes)
    return Error(Code::kCorruption, fmt::format("{} has {} bytes, the disk {}", overlay_of(disk),
                                                facts.size_bytes, disk.size_bytes));
  return facts.has_base;
}

Result<FailbackRound> QemuFailbackSource::bring_home(const RoundJob& job, ProgressSink& progress,
                                                     const CancelToken& cancel) {
  FailbackRound round;
  if (!job.last) {
    job.warnings.push_back(
        fmt::format("disk {}: what the instance wrote comes home at the "
                    "cutover, when QEMU lets go of it",
                    job.disk.index));
    return round;
  }
  const std::string overlay = overlay_of(job.disk);
  const Stopwatch watch;
  const Status written = visit_overlay(
      overlay,
      [&](const OverlayCluster& cluster, ByteSpan data) -> Status {
        const uint64_t size = std::min<uint64_t>(kOverlayClusterSizeBytes,
                                                 job.disk.size_bytes - cluster.offset_bytes);
        ++round.blocks;
        round.bytes += data.size();
        RECLO_KILL_POINT("failback.cluster_written");
        ProgressUpdate update;
        update.stage = "bringing clusters home";
        update.done_bytes = round.blocks * kOverlayClusterSizeBytes;
        progress.update(update);
        return cluster.is_zero ? job.sink.write_zeros(cluster.offset_bytes, size)
                               : job.sink.write_at(cluster.offset_bytes, data);
      },
      cancel);
  RECLO_TRY(written);
  RECLO_TRY(job.sink.flush());
  round.write_ms = static_cast<int64_t>(watch.seconds() * 1000);
  Bytes found;
  const Status same_again = visit_overlay(
      overlay,
      [&](const OverlayCluster& cluster, ByteSpan data) -> Status {
        found.resize(std::min<uint64_t>(kOverlayClusterSizeBytes,
                                        job.disk.size_bytes - cluster.offset_bytes));
        RECLO_TRY(job.sink.read_at(cluster.offset_bytes, found));
        ++job.verified;
        const bool same = cluster.is_zero ? is_all_zero(found)
                                          : std::equal(data.begin(), data.end(), found.begin());
        if (same) return {};
        return Error(Code::kCorruption,
                     fmt::format("{} reads back as something else than was written at {}",
                                 job.sink.path(), cluster.offset_bytes));
      },
      cancel);
  RECLO_TRY(same_again);
  return round;
}

Status QemuFailbackSource::stop(const FailbackRecord&, ProgressSink& progress,
                                const CancelToken& cancel) {
  StopOptions options;
  options.powerdown_timeout = std::chrono::minutes(3);
  return stop_instance(instances_, instance_.id, options, progress, cancel);
}

// Nothing was made but the targets.
Status QemuFailbackSource::clean(FailbackRecord&, bool, const std::function<Status()>&,
                                 const CancelToken&) {
  return {};
}

}  // namespace reclo::recovery
