// What an instance's disks held when it was started, as the records of standbys and failovers in
// this state folder tell: the recovery point, and what was laid over it to prepare it.
#pragma once

#include <string>

#include "recovery/failback/failback_record.h"

namespace reclo::recovery {

/// Fills in, for each disk by the snapshot that it was made from (`held`), which blocks the target
/// lacks when it holds the recovery point, and whether the server was prepared. Where no record
/// tells, nothing is known: every block is fetched, which is said. Errors: those of reading
/// records.
Status describe_held_content(const std::string& state_directory, FailbackRecord& record);

}  // namespace reclo::recovery
