#include <fmt/format.h>

#include <algorithm>

#include "cloud/ec2_client.h"
#include "cloud/ec2_parameters.h"

namespace reclo::cloud {
namespace {

constexpr uint64_t kRequestsPerSecond = 20;
constexpr int kSightingsWanted = 3;
constexpr auto kPollInterval = std::chrono::milliseconds(500);

Result<Snapshot> parse_snapshot(const pugi::xml_node& item) {
  Snapshot out;
  RECLO_ASSIGN_OR_RETURN(const std::string id, xml_required(item, "snapshotId"));
  RECLO_ASSIGN_OR_RETURN(out.id, SnapshotId::parse(id));
  RECLO_ASSIGN_OR_RETURN(out.state, xml_required(item, "status"));
  out.state_message = xml_text(item, "statusMessage");
  RECLO_ASSIGN_OR_RETURN(const uint64_t size, xml_number(item, "volumeSize"));
  out.volume_size_gib = static_cast<uint32_t>(std::min<uint64_t>(size, UINT32_MAX));
  out.tags = parse_tags(item);
  return out;
}

Result<ImportTask> parse_import(const pugi::xml_node& node) {
  ImportTask out;
  RECLO_ASSIGN_OR_RETURN(out.id, xml_required(node, "importTaskId"));
  const pugi::xml_node detail = node.child("snapshotTaskDetail");
  out.status = xml_text(detail, "status");
  out.message = xml_text(detail, "statusMessage");
  RECLO_ASSIGN_OR_RETURN(const uint64_t progress, xml_number(detail, "progress"));
  out.progress_percent = static_cast<uint32_t>(std::min<uint64_t>(progress, 100));
  if (const std::string id = xml_text(detail, "snapshotId"); !id.empty()) {
    RECLO_ASSIGN_OR_RETURN(out.snapshot, SnapshotId::parse(id));
  }
  return out;
}

}  // namespace

Ec2Client::Ec2Client(const ServiceOptions& options)
    : client_("ec2", "2016-11-15", options, kRequestsPerSecond) {}

Result<std::vector<Snapshot>> Ec2Client::snapshots(const Filters& filters,
                                                   const CancelToken& cancel) {
  net::QueryPairs parameters{{"Owner.1", "self"}};
  add_filters(parameters, filters);
  std::vector<Snapshot> out;
  RECLO_TRY(for_each_item(
      client_, "DescribeSnapshots", parameters, "snapshotSet",
      [&](const pugi::xml_node& item) -> Status {
        RECLO_ASSIGN_OR_RETURN(Snapshot snapshot, parse_snapshot(item));
        out.push_back(std::move(snapshot));
        return {};
      },
      cancel));
  return out;
}

Result<Snapshot> Ec2Client::snapshot(const SnapshotId& id, const CancelToken& cancel) {
  std::optional<Snapshot> out;
  RECLO_TRY(for_each_item(
      client_, "DescribeSnapshots", {{"SnapshotId.1", id.text()}}, "snapshotSet",
      [&](const pugi::xml_node& item) -> Status {
        RECLO_ASSIGN_OR_RETURN(out, parse_snapshot(item));
        return {};
      },
      cancel));
  if (!out) return Error(Code::kNotFound, fmt::format("there is no snapshot {}", id.text()));
  return *std::move(out);
}

Status Ec2Client::wait_for_snapshot(const SnapshotId& id, std::chrono::milliseconds patience,
                                    const CancelToken& cancel) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  std::string state = "not found";
  for (int sightings = 0; sightings < kSightingsWanted;) {
    const auto found = snapshot(id, cancel);
    if (!found.ok() && found.error().code() != Code::kNotFound) return found.error();
    state = found.ok() ? found->state : "not found";
    if (state == "error")
      return Error(Code::kIo, fmt::format("snapshot {} ended in an error: {}", id.text(),
                                          found->state_message));
    sightings = state == "completed" ? sightings + 1 : 0;
    if (sightings == kSightingsWanted) break;
    if (std::chrono::steady_clock::now() > deadline)
      return Error(Code::kTimeout, fmt::format("snapshot {} is still {}", id.text(), state));
    RECLO_TRY(cancel.sleep_for(kPollInterval));
  }
  return {};
}

Result<SnapshotId> Ec2Client::create_snapshot(const VolumeId& volume, const Tags& tags,
                                              const CancelToken& cancel) {
  net::QueryPairs parameters{{"VolumeId", volume.text()}};
  add_tags(parameters, tags, {"snapshot"});
  RECLO_ASSIGN_OR_RETURN(const Bytes body, client_.call("CreateSnapshot", parameters, cancel));
  RECLO_ASSIGN_OR_RETURN(const auto document, parse_xml(body, "ec2:CreateSnapshot"));
  RECLO_ASSIGN_OR_RETURN(const std::string id,
                         xml_required(document->document_element(), "snapshotId"));
  return SnapshotId::parse(id);
}

Status Ec2Client::delete_snapshot(const SnapshotId& id, const CancelToken& cancel) {
  const auto gone = client_.call("DeleteSnapshot", {{"SnapshotId", id.text()}}, cancel);
  if (gone.ok() || gone.error().code() == Code::kNotFound) return {};
  return gone.error();
}

Result<ImportTask> Ec2Client::import_snapshot(const std::string& bucket, const std::string& key,
                                              const std::string& format,
                                              const std::string& client_token, const Tags& tags,
                                              const CancelToken& cancel) {
  net::QueryPairs parameters{{"ClientToken", client_token},
                             {"DiskContainer.Format", format},
                             {"DiskContainer.UserBucket.S3Bucket", bucket},
                             {"DiskContainer.UserBucket.S3Key", key}};
  add_tags(parameters, tags, {"import-snapshot-task"});
  RECLO_ASSIGN_OR_RETURN(const Bytes body, client_.call("ImportSnapshot", parameters, cancel));
  RECLO_ASSIGN_OR_RETURN(const auto document, parse_xml(body, "ec2:ImportSnapshot"));
  return parse_import(document->document_element());
}

Result<ImportTask> Ec2Client::import_task(const std::string& id, const CancelToken& cancel) {
  std::optional<ImportTask> out;
  RECLO_TRY(for_each_item(
      client_, "DescribeImportSnapshotTasks", {{"ImportTaskId.1", id}}, "importSnapshotTaskSet",
      [&](const pugi::xml_node& item) -> Status {
        RECLO_ASSIGN_OR_RETURN(out, parse_import(item));
        return {};
      },
      cancel));
  if (!out) return Error(Code::kNotFound, fmt::format("there is no import task {}", id));
  return *std::move(out);
}

Status Ec2Client::cancel_import_task(const std::string& id, const CancelToken& cancel) {
  const auto done = client_.call("CancelImportTask", {{"ImportTaskId", id}}, cancel);
  const bool over = !done.ok() && (done.error().code() == Code::kNotFound ||
                                   done.error().code() == Code::kInvalidArgument ||
                                   done.error().code() == Code::kConflict);
  if (done.ok() || over) return {};
  return done.error();
}

Status Ec2Client::create_tags(const SnapshotId& id, const Tags& tags, const CancelToken& cancel) {
  net::QueryPairs parameters{{"ResourceId.1", id.text()}};
  size_t n = 0;
  for (const auto& [key, value] : tags) {
    const std::string tag = fmt::format("Tag.{}", ++n);
    parameters.emplace_back(tag + ".Key", key);
    parameters.emplace_back(tag + ".Value", value);
  }
  RECLO_TRY(client_.call("CreateTags", parameters, cancel));
  return {};
}

}  // namespace reclo::cloud
