// A recovery point for scripts (--json) and for people.
#pragma once

#include <string>

#include "base/json.h"
#include "repo/repository.h"

namespace reclo::cli {

/// {"id","server","sequence","kind","consistency","started","taken","finished","previous",
///  "logical_bytes","allocated_bytes","read_bytes","new_bytes","stored_bytes","map_bytes",
///  "uploaded_bytes","put_requests","duration_ms","slowest_stage","stages":[{"name","busy_ms"}],
///  "disks":[{"index","name","format","size_bytes","allocated_bytes","read_bytes","new_bytes"}]}
Json point_json(const repo::PointRecord& record);
std::string point_text(const repo::PointRecord& record);

}  // namespace reclo::cli
