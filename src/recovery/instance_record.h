// What is known of a recovered server: instance.json in its folder, written durably, versioned.
//
// States (each arrow is a step that may be repeated, killed and resumed):
//
//   created ─▶ exports_started ─▶ overlays_made ─▶ started ─▶ answering
//      │              │                 │             │           │
//      └──────────────┴────── stop ─────┴──── or ─────┴─ failure ─┘
//                                       ▼
//                              stopped / failed ── resume ─▶ exports_started …
//
// Hydration (the rest of the disks copied into the overlays) goes on beside started/answering:
//
//   none | waiting ─▶ running ─▶ done / failed (guest keeps running, reading lazily)
//
// Values; any thread.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "recovery/process_ref.h"
#include "recovery/qemu_machine.h"

namespace reclo::recovery {

inline constexpr uint32_t kInstanceVersion = 1;
inline constexpr size_t kInstanceSizeBytesMax = size_t{4} << 20;
inline constexpr size_t kStepsKeptMax = 200;

enum class InstanceState {
  kCreated,
  kExportsStarted,
  kOverlaysMade,
  kStarted,
  kAnswering,
  kStopped,
  kFailed,
};
enum class HydrationState { kNone, kWaiting, kRunning, kDone, kFailed };

std::string_view state_name(InstanceState state);
std::string_view hydration_name(HydrationState state);

struct DiskRecord {
  uint32_t index = 0;
  uint64_t size_bytes = 0;
  ProcessRef export_process;
  uint64_t hydrated_bytes = 0;
  uint64_t hydration_total_bytes = 0;
  bool hydrated = false;  // the overlay stands alone (its own header says so too)
  bool operator==(const DiskRecord&) const = default;
};

struct StepRecord {
  std::string name;  // "exports", "overlays", "machine", "answer", "hydration"
  uint32_t run = 0;
  int64_t started_ms = 0;  // Unix time
  int64_t finished_ms = 0;
  bool operator==(const StepRecord&) const = default;
};

struct InstanceRecord {
  std::string id;    // 12 hex digits
  std::string name;  // the user's, may be empty
  std::string server;
  std::string point;
  WallTime point_time{};
  WallTime created_at{};
  InstanceState state = InstanceState::kCreated;
  std::string problem;  // why it failed, or what goes wrong now; empty when all is well

  Accelerator accelerator = Accelerator::kTcg;
  uint64_t memory_bytes = 0;
  uint32_t cpus = 1;
  Firmware firmware = Firmware::kAuto;
  DiskBus disk_bus = DiskBus::kVirtio;
  Display display = Display::kNone;
  bool isolated = false;
  std::vector<Forward> forwards;
  std::string vnc_address;  // "127.0.0.1:5901" or a socket path, while it runs
  std::string wait_for;     // as given; empty: nothing is awaited
  int64_t wait_timeout_ms = 0;

  HydrationState hydration = HydrationState::kNone;
  uint64_t hydration_limit_bytes_per_second = 0;

  /// How a RepositoryExporter reaches the recovery point; never secrets.
  std::map<std::string, std::string> source;

  std::string run_dir;  // where its sockets are
  ProcessRef machine_process;
  ProcessRef supervisor_process;
  std::vector<DiskRecord> disks;
  uint32_t run = 0;  // how many times it was brought up
  std::vector<StepRecord> steps;
  std::optional<int64_t> rto_ms;  // the first run's: from the call to the first answer
  std::optional<int64_t> rpo_ms;  // how old the recovery point was at that call
  bool operator==(const InstanceRecord&) const = default;
};

std::string encode_instance(const InstanceRecord& record);
/// Errors: kCorruption; kUnsupported for a newer version.
Result<InstanceRecord> decode_instance(std::string_view text);

/// One entry of `reclo instances --json`:
/// {"id","name","server","point","point_time","created_at","state","problem","target":"qemu",
///  "running":bool,"accelerator","firmware","memory_bytes","cpus","isolated","pid":number|null,
///  "supervisor_pid":number|null,"addresses":["127.0.0.1:8080 -> 80"],"vnc","rto_ms":number|null,
///  "rpo_ms":number|null,"steps":[{"name","run","started_ms","finished_ms","duration_ms"}],
///  "hydration":{"state","done_bytes","total_bytes"},
///  "disks":[{"index","size_bytes","hydrated","hydrated_bytes","export_pid":number|null}]}
/// pids are null when the process does not run. `running` is asked of the system, now.
nlohmann::json describe_instance(const InstanceRecord& record);

}  // namespace reclo::recovery
