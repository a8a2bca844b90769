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
  // A cluster may reach past the disk's end.
  const auto inside = [&](uint64_t offset_bytes, ByteSpan cluster) {
    return cluster.first(std::min<uint64_t>(cluster.size(), job.disk.size_bytes - offset_bytes));
  };
  const Stopwatch watch;
  const Status written =
      for_each_held_cluster(overlay, [&](uint64_t offset_bytes, ByteSpan cluster) -> Status {
        RECLO_TRY(cancel.check());
        const ByteSpan data = inside(offset_bytes, cluster);
        ++round.blocks;
        round.bytes += data.size();
        RECLO_KILL_POINT("failback.cluster_written");
        ProgressUpdate update;
        update.stage = "bringing clusters home";
        update.done_bytes = round.bytes;
        progress.update(update);
        return is_all_zero(data) ? job.sink.write_zeros(offset_bytes, data.size())
                                 : job.sink.write_at(offset_bytes, data);
      });
  RECLO_TRY(written);
  RECLO_TRY(job.sink.flush());
  round.write_ms = static_cast<int64_t>(watch.seconds() * 1000);
  Bytes found;
  const Status same_again =
      for_each_held_cluster(overlay, [&](uint64_t offset_bytes, ByteSpan cluster) -> Status {
        RECLO_TRY(cancel.check());
        const ByteSpan data = inside(offset_bytes, cluster);
        found.resize(data.size());
        RECLO_TRY(job.sink.read_at(offset_bytes, found));
        ++job.verified;
        if (std::equal(data.begin(), data.end(), found.begin())) return {};
        return Error(Code::kCorruption,
                     fmt::format("{} reads back as something else than was written at {}",
                                 job.sink.path(), offset_bytes));
      });
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
