// Failbacks for scripts (--json) and for people.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "recovery/failback/failback.h"
#include "recovery/instance_store.h"

namespace reclo::cli {

/// "3m", "90s", "1h", "90" in seconds; empty: 0. Errors: kInvalidArgument.
Result<double> parse_window(const std::string& text);

struct PlanRequest {
  recovery::FailbackRecord record;  // perhaps not begun
  uint64_t point_data_bytes = 0;
  uint64_t overlay_bytes = 0;               // QEMU: what the overlays take now
  uint64_t bandwidth_bytes_per_second = 0;  // 0: as measured
  double window_s = 0;
};
Json plan_json(const PlanRequest& request);
std::string plan_text(const PlanRequest& request);

/// What an instance's overlays take on disk.
Result<uint64_t> overlay_file_bytes(const recovery::InstanceStore& instances,
                                    const std::string& instance);

/// {"id","server","source","instance","state","round","point","disks":[…],"rounds":[…],
///  "forecast":{"blocks","seconds"}|null}
Json failback_json(const recovery::FailbackRecord& record);
Json report_json(const recovery::FailbackReport& report, double window_s);
std::string seed_text(const recovery::FailbackReport& report, double window_s);
std::string cutover_text(const recovery::FailbackReport& report);
std::string status_text(const std::vector<recovery::FailbackRecord>& records);

}  // namespace reclo::cli
