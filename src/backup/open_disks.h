// The disks of one backup: opened, looked at, and matched with those of the parent point. One
// thread.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backup/page_tags.h"
#include "backup/segment_plan.h"
#include "backup/server_state.h"
#include "disk/block_source.h"
#include "repo/record.h"

namespace reclo::backup {

struct OpenDisk {
  std::unique_ptr<disk::BlockSource> source;
  SegmentPlan plan;
  std::optional<size_t> parent_index;  // the same disk in the parent point
  std::optional<PageTagFile> tags;     // set when they describe the parent
};

Result<std::vector<OpenDisk>> open_disks(const std::vector<std::string>& paths,
                                         const CancelToken& cancel);

/// What a resumed session must find again: the same disks in the same order.
std::string disks_signature(const std::vector<OpenDisk>& disks);

/// Finds each disk in the parent by its name, or, renamed, by its place; and the memory of its
/// pages unless `full`. A lost memory is a warning.
Status match_parent_disks(std::vector<OpenDisk>& disks, const repo::PointRecord& parent,
                          const ServerState& state, bool full, std::vector<std::string>& warnings);

}  // namespace reclo::backup
