#include "backup/open_disks.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/limits.h"

namespace reclo::backup {

Result<std::vector<OpenDisk>> open_disks(const std::vector<std::string>& paths,
                                         const CancelToken& cancel) {
  std::vector<OpenDisk> disks;
  for (const std::string& path : paths) {
    OpenDisk disk;
    RECLO_ASSIGN_OR_RETURN_WITH(disk.source, disk::open_source(path, cancel), path);
    if (disk.source->size_bytes() == 0)
      return Error(Code::kInvalidArgument, path + ": the disk is empty");
    if (disk.source->size_bytes() > kDiskSizeBytesMax)
      return Error(Code::kUnsupported, path + ": disks above 16 PiB are not supported");
    RECLO_ASSIGN_OR_RETURN_WITH(disk.plan, SegmentPlan::make(*disk.source, cancel), path);
    disks.push_back(std::move(disk));
  }
  return disks;
}

std::string disks_signature(const std::vector<OpenDisk>& disks) {
  std::string out;
  for (const OpenDisk& disk : disks)
    out += fmt::format("{}\t{}\n", disk.source->path(), disk.source->size_bytes());
  return out;
}

Status match_parent_disks(std::vector<OpenDisk>& disks, const repo::PointRecord& parent,
                          const ServerState& state, bool full, std::vector<std::string>& warnings) {
  const auto& old_disks = parent.disks;
  for (size_t i = 0; i < disks.size(); ++i) {
    OpenDisk& disk = disks[i];
    const auto same_name = std::find_if(old_disks.begin(), old_disks.end(), [&](const auto& old) {
      return old.name == disk.source->path();
    });
    if (same_name != old_disks.end()) {
      disk.parent_index = static_cast<size_t>(same_name - old_disks.begin());
    } else if (i < old_disks.size() && old_disks.size() == disks.size() &&
               old_disks[i].size_bytes == disk.source->size_bytes()) {
      disk.parent_index = i;  // renamed, as kernels and people do
    }
    // Tags of a disk that shrank name pages that its map no longer has: they would hide data when
    // it grows again, so they are not used then.
    if (disk.parent_index != i || full || old_disks[i].size_bytes > disk.source->size_bytes())
      continue;
    RECLO_ASSIGN_OR_RETURN(PageTagFile tags, PageTagFile::open(state.tags_path(i)));
    if (tags.described_point() == parent.id) {
      disk.tags = std::move(tags);
    } else {
      warnings.push_back(
          fmt::format("{}: the memory of its pages is lost; what changed is found by "
                      "comparing whole chunks this time",
                      disk.source->path()));
    }
  }
  return {};
}

}  // namespace reclo::backup
