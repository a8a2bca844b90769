#include "recovery/hydration.h"

#include <fmt/format.h>

#include "base/json.h"
#include "base/kill_point.h"
#include "base/units.h"
#include "recovery/overlay.h"

namespace reclo::recovery {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

constexpr seconds kAnswerMax{20};
constexpr minutes kFlushMax{15};  // gigabytes of page cache onto a slow disk
constexpr int kCompleteTries = 20;

std::string job_name(uint32_t disk_index) { return fmt::format("hydrate-{}", disk_index); }

struct Job {
  std::string status;  // "running", "pending", "concluded" …; empty: there is none
  std::string error;
  uint64_t done_bytes = 0;
  uint64_t total_bytes = 0;
};

Result<Job> find_job(QmpClient& qmp, const std::string& name, const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const Json jobs, qmp.execute("query-jobs", cancel));
  if (!jobs.is_array()) return Error(Code::kCorruption, "QEMU answered query-jobs with no list");
  for (const Json& entry : jobs) {
    RECLO_ASSIGN_OR_RETURN(const std::string id, json_get<std::string>(entry, "id"));
    if (id != name) continue;
    Job job;
    RECLO_ASSIGN_OR_RETURN(job.status, json_get<std::string>(entry, "status"));
    RECLO_ASSIGN_OR_RETURN(job.error, json_get_or<std::string>(entry, "error", ""));
    RECLO_ASSIGN_OR_RETURN(job.done_bytes, json_get<uint64_t>(entry, "current-progress"));
    RECLO_ASSIGN_OR_RETURN(job.total_bytes, json_get<uint64_t>(entry, "total-progress"));
    return job;
  }
  return Job{};
}

Status flush_overlay(QmpClient& qmp, uint32_t disk_index, const CancelToken& cancel) {
  const auto words = qmp.human(fmt::format("qemu-io {} \"flush\"", disk_node(disk_index)),
                               cancel.with_timeout(kFlushMax));
  RECLO_TRY(words);
  if (words->empty()) return {};
  return Error(Code::kIo, fmt::format("QEMU could not write out disk {}: {}", disk_index, *words));
}

// Whether the file, durably, holds the whole disk. Asked again when a guest write was in the way.
Result<bool> settle(Workbench& bench, QmpClient& qmp, const DiskRecord& disk) {
  const std::string path = bench.paths().overlay(disk.index);
  for (int i = 0; i < kCompleteTries; ++i) {
    RECLO_TRY(flush_overlay(qmp, disk.index, bench.cancel));
    RECLO_ASSIGN_OR_RETURN(const bool complete, overlay_is_complete(path, bench.cancel));
    if (complete) return true;
  }
  return false;
}

// All data is copied: proves that the file can stand alone, and lets the job end.
Status finalize(Workbench& bench, QmpClient& qmp, const DiskRecord& disk) {
  const std::string path = bench.paths().overlay(disk.index);
  RECLO_ASSIGN_OR_RETURN(const bool complete, settle(bench, qmp, disk));
  const CancelToken answer = bench.cancel.with_timeout(kAnswerMax);
  if (!complete) {
    RECLO_TRY(qmp.execute("job-cancel", {{"id", job_name(disk.index)}}, answer));
    return Error(Code::kCorruption,
                 fmt::format("{} still lacks blocks after all were copied (is the disk under it "
                             "full?); the recovery point stays in use",
                             path));
  }
  RECLO_KILL_POINT("recovery.before_finalize");
  RECLO_TRY(qmp.execute("job-finalize", {{"id", job_name(disk.index)}}, answer));
  return {};
}

Status conclude(Workbench& bench, QmpClient& qmp, const DiskRecord& disk, const Job& job) {
  RECLO_TRY(qmp.execute("job-dismiss", {{"id", job_name(disk.index)}},
                        bench.cancel.with_timeout(kAnswerMax)));
  if (!job.error.empty())
    return Error(Code::kIo, fmt::format("copying disk {}: {}", disk.index, job.error));
  return {};
}

// The overlay's header names no base any more: lets go of the NBD node.
Status release_base(Workbench& bench, QmpClient& qmp, DiskRecord& disk) {
  RECLO_ASSIGN_OR_RETURN(const bool complete, settle(bench, qmp, disk));
  if (!complete)
    return Error(Code::kCorruption,
                 fmt::format("{} has no base and lacks blocks", bench.paths().overlay(disk.index)));
  const auto removed = qmp.execute("blockdev-del", {{"node-name", base_node(disk.index)}},
                                   bench.cancel.with_timeout(kAnswerMax));
  // Refused when it is gone already: a resumed machine of a hydrated disk never had one.
  if (!removed.ok() && removed.error().code() != Code::kInternal &&
      removed.error().code() != Code::kNotFound)
    return removed.error();
  disk.hydrated_bytes = disk.hydration_total_bytes = disk.size_bytes;
  disk.hydrated = true;
  return {};
}

}  // namespace

Result<bool> hydrate_disk_once(Workbench& bench, QmpClient& qmp, DiskRecord& disk) {
  const CancelToken answer = bench.cancel.with_timeout(kAnswerMax);
  const std::string name = job_name(disk.index);
  RECLO_ASSIGN_OR_RETURN(const Job job, find_job(qmp, name, answer));
  if (job.status.empty()) {
    RECLO_ASSIGN_OR_RETURN(const bool needed, needs_base(bench, disk));
    if (!needed) {
      RECLO_TRY(release_base(bench, qmp, disk));
      return true;
    }
    RECLO_TRY(qmp.execute("block-stream",
                          {{"job-id", name},
                           {"device", disk_node(disk.index)},
                           {"speed", bench.record.hydration_limit_bytes_per_second},
                           {"on-error", "report"},
                           {"auto-finalize", false},
                           {"auto-dismiss", false}},
                          answer));
    return false;
  }
  disk.hydrated_bytes = job.done_bytes;
  disk.hydration_total_bytes = job.total_bytes;
  if (job.status == "pending") {
    RECLO_TRY(finalize(bench, qmp, disk));
  } else if (job.status == "concluded") {
    RECLO_TRY(conclude(bench, qmp, disk, job));
  }
  return false;
}

}  // namespace reclo::recovery
