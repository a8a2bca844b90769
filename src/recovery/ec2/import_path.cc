#include "recovery/ec2/import_path.h"

#include <fmt/format.h>

#include "base/kill_point.h"
#include "recovery/ec2/failover_bench.h"

namespace reclo::recovery {
namespace {

constexpr auto kPollInterval = std::chrono::seconds(2);
constexpr auto kImportPatience = std::chrono::hours(6);
constexpr auto kCancelPatience = std::chrono::minutes(10);

std::string vhd_path(const FailoverBench& bench, const FailoverDisk& disk) {
  return os::join_path(bench.store.folder(bench.record.id), fmt::format("disk-{}.vhd", disk.index));
}

std::string object_key(const FailoverBench& bench, const FailoverDisk& disk) {
  return fmt::format("reclo-import/{}/disk-{}.vhd", bench.record.id, disk.index);
}

Status upload(FailoverBench& bench, FailoverDisk& disk) {
  const std::string path = vhd_path(bench, disk);
  const std::string key = object_key(bench, disk);
  store::S3Client& bucket = *bench.import->bucket;
  if (!os::path_exists(path))
    RECLO_TRY(bench.import->export_vhd(disk.index, path, bench.progress, bench.cancel));
  RECLO_KILL_POINT("failover.exported");
  if (!disk.upload_id.empty()) {
    RECLO_TRY(store::abort_upload(bucket, key, disk.upload_id, bench.cancel));
    disk.upload_id.clear();
  }
  RECLO_ASSIGN_OR_RETURN(const uint64_t size_bytes, os::file_size_bytes(path));
  if (store::needs_multipart(size_bytes)) {
    RECLO_ASSIGN_OR_RETURN(disk.upload_id, store::begin_upload(bucket, key, bench.cancel));
    RECLO_TRY(bench.save());
    RECLO_KILL_POINT("failover.upload_begun");
  }
  RECLO_TRY(store::upload_file(bucket, key, disk.upload_id, path, bench.progress, bench.cancel));
  RECLO_KILL_POINT("failover.uploaded");
  disk.upload_id.clear();
  disk.uploaded = true;
  RECLO_TRY(bench.save());
  return os::remove_file(path);
}

Status ask(FailoverBench& bench, FailoverDisk& disk) {
  const std::string token =
      bench.client_token(fmt::format("import/{}/{}", disk.index, disk.attempt));
  RECLO_ASSIGN_OR_RETURN(
      const cloud::ImportTask task,
      bench.cloud.ec2->import_snapshot(bench.record.request.import_bucket, object_key(bench, disk),
                                       "VHD", token, bench.tags(), bench.cancel));
  RECLO_KILL_POINT("failover.import_asked");
  if (task.id.empty())
    return Error(Code::kUnavailable, "ec2:ImportSnapshot answered without a task's id");
  disk.import_task = task.id;
  return bench.save();
}

// Until EC2 has made a snapshot of it.
Status await_import(FailoverBench& bench, FailoverDisk& disk) {
  const CancelToken deadline = bench.cancel.with_timeout(kImportPatience);
  for (;;) {
    RECLO_ASSIGN_OR_RETURN(const cloud::ImportTask task,
                           bench.cloud.ec2->import_task(disk.import_task, bench.cancel));
    const std::string detail =
        fmt::format("{} {}% {}", disk.import_task, task.progress_percent, task.message);
    ProgressUpdate update;
    update.stage = "EC2 imports the disk";
    update.done_bytes = task.progress_percent;
    update.total_bytes = 100;
    update.detail = detail;
    bench.progress.update(update);
    if (task.status == "completed" && task.snapshot) {
      disk.snapshot = *task.snapshot;
      return bench.save();
    }
    if (task.status == "deleted" || task.status == "deleting" || task.status == "error") {
      // The next run begins with another token and uploads anew.
      const std::string failed = disk.import_task;
      disk.import_task.clear();
      disk.uploaded = false;
      ++disk.attempt;
      RECLO_TRY(bench.save());
      return Error(Code::kIo, fmt::format("EC2 could not import disk {} ({}): {}", disk.index,
                                          failed, task.message));
    }
    RECLO_TRY(deadline.sleep_for(kPollInterval));
  }
}

// Cancels it and sees it ended: one that was about to finish leaves a snapshot, which carries no
// tag by which it could be found.
Status end_import(FailoverBench& bench, FailoverDisk& disk) {
  RECLO_TRY(bench.cloud.ec2->cancel_import_task(disk.import_task, bench.cancel));
  const CancelToken deadline = bench.cancel.with_timeout(kCancelPatience);
  for (;;) {
    const auto task = bench.cloud.ec2->import_task(disk.import_task, bench.cancel);
    if (!task.ok() && task.error().code() == Code::kNotFound) return {};
    RECLO_TRY(task);
    if (task->snapshot) {
      disk.snapshot = *task->snapshot;
      return bench.save();
    }
    if (task->status != "active" && task->status != "deleting" && task->status != "cancelling")
      return {};
    RECLO_TRY_WITH(deadline.sleep_for(kPollInterval),
                   fmt::format("import {} does not end", disk.import_task));
  }
}

}  // namespace

Status import_disk(FailoverBench& bench, FailoverDisk& disk) {
  if (bench.import == nullptr)
    return Error(Code::kInvalidArgument,
                 "importing needs the repository and a bucket: run `reclo recover` again with "
                 "--via import --import-bucket BUCKET");
  if (!disk.uploaded) RECLO_TRY(upload(bench, disk));
  if (disk.import_task.empty()) RECLO_TRY(ask(bench, disk));
  if (disk.snapshot.empty()) RECLO_TRY(await_import(bench, disk));
  RECLO_KILL_POINT("failover.imported");
  // The task's tags do not become its snapshot's.
  RECLO_TRY(bench.cloud.ec2->create_tags(disk.snapshot, bench.tags(), bench.cancel));
  RECLO_TRY(store::delete_object(*bench.import->bucket, object_key(bench, disk), bench.cancel));
  disk.completed = true;
  RECLO_KILL_POINT("failover.object_removed");
  return bench.save();
}

Status remove_import(FailoverBench& bench, FailoverDisk& disk, store::S3Client* bucket) {
  if (disk.uploaded && disk.import_task.empty()) {
    // Perhaps it was asked for and the answer lost: the same token tells its id. A task that only
    // begins now is cancelled like any other.
    const Status asked = ask(bench, disk);
    if (!asked.ok() && asked.error().code() != Code::kInvalidArgument &&
        asked.error().code() != Code::kNotFound)
      return asked;
  }
  if (!disk.import_task.empty() && disk.snapshot.empty()) RECLO_TRY(end_import(bench, disk));
  RECLO_TRY(os::remove_file(vhd_path(bench, disk)));
  if (bucket == nullptr || disk.completed) return {};
  if (!disk.upload_id.empty())
    RECLO_TRY(store::abort_upload(*bucket, object_key(bench, disk), disk.upload_id, bench.cancel));
  return store::delete_object(*bucket, object_key(bench, disk), bench.cancel);
}

}  // namespace reclo::recovery
