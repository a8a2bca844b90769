// Recovering a server on this machine with QEMU: the whole trip, and its life afterwards.
//
// recover() starts servers for the recovery point's disks, lays persistent overlays over them,
// starts QEMU in a session of its own, starts a supervisor process (supervisor.h), and waits for
// the first answer. Everything outlives the caller. Killed anywhere, resume_instance() goes on from
// what is there and stop_instance() cleans it up. States and files: instance_record.h,
// instance_store.h. Thread rule: safe from any thread; operations on one instance exclude each
// other by its lock.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/progress.h"
#include "crypto/secret.h"
#include "recovery/disk_exporter.h"
#include "recovery/instance_store.h"

namespace reclo::recovery {

struct RecoverDisk {
  uint32_t index = 0;
  uint64_t size_bytes = 0;
};

struct RecoverOptions {
  std::string name;  // the instance's, may be empty
  std::string server;
  std::string point;  // the recovery point's id
  WallTime point_time{};
  std::vector<RecoverDisk> disks;             // the first one boots
  std::map<std::string, std::string> source;  // see RepositoryExporter; no secrets

  uint64_t memory_bytes = 0;  // 0: 2 GiB, or half of what is available here if that is less
  uint32_t cpus = 0;          // 0: two, or one on a machine with one
  std::vector<Forward> forwards;
  std::string accelerator = "auto";  // auto, kvm, tcg
  Display display = Display::kNone;
  Firmware firmware = Firmware::kAuto;
  DiskBus disk_bus = DiskBus::kVirtio;
  bool isolated = false;  // the guest reaches no network; forwards to it work

  std::string wait_for;  // parse_wait_target(); empty: success when QEMU runs
  std::chrono::milliseconds wait_timeout{std::chrono::minutes(10)};
  bool hydrate = false;
  uint64_t hydration_limit_bytes_per_second = 0;  // 0: none
};

/// How to start the process that looks after an instance: `argv` (the program and its hidden verb)
/// is followed by "--state-dir DIR --instance ID --key-fd N", N being a memory file that holds the
/// 32 bytes of `key` and nothing else (no --key-fd when there is no key). An empty argv starts
/// none.
struct SupervisorLaunch {
  std::vector<std::string> argv;
  const crypto::SecretKey* key = nullptr;
};

struct RecoverResult {
  InstanceRecord record;
  bool answered = false;        // wait_for was given and fulfilled
  int64_t first_answer_ms = 0;  // this call's start to the first answer, or to QEMU running
};

/// Errors: kInvalidArgument (options), kNotFound (QEMU is not installed), kUnsupported (KVM), what
/// exporting says; kInternal when QEMU or the guest's machine ends early, with its last words;
/// kTimeout when nothing answered in time: the instance then runs on. After other errors everything
/// started is ended, and the folder stays for its logs (state failed) until it is deleted.
Result<RecoverResult> recover(const InstanceStore& store, const RecoverOptions& options,
                              DiskExporter& exporter, const SupervisorLaunch& supervisor,
                              ProgressSink& progress, const CancelToken& cancel);

struct ResumeOptions {
  std::optional<bool> hydrate;          // unset: as before
  std::optional<std::string> wait_for;  // unset: as before
};

/// Brings an instance back to running with its overlays: dead servers, a dead QEMU, a dead
/// supervisor are started again, what lives is left alone. `exporter` may be null when no disk
/// needs the repository any more (needs_repository()). Errors as recover().
Result<RecoverResult> resume_instance(const InstanceStore& store, const std::string& id,
                                      const ResumeOptions& options, DiskExporter* exporter,
                                      const SupervisorLaunch& supervisor, ProgressSink& progress,
                                      const CancelToken& cancel);

/// Whether resuming needs the repository (and so its passphrase).
Result<bool> needs_repository(const InstanceStore& store, const InstanceRecord& record);

struct StopOptions {
  bool force = false;            // do not ask the guest to shut down first
  bool delete_instance = false;  // remove the overlays and all else afterwards
  std::chrono::milliseconds powerdown_timeout{std::chrono::seconds(60)};
};

/// Ends supervisor, guest and servers, in this order. The folder stays unless it is to be deleted:
/// resume_instance() starts the guest again as it was. Success when it is stopped already.
Status stop_instance(const InstanceStore& store, const std::string& id, const StopOptions& options,
                     ProgressSink& progress, const CancelToken& cancel);

/// All instances, oldest first, with `state` corrected by what really runs: one whose QEMU ended
/// unseen is shown as stopped (it ended orderly) or failed.
Result<std::vector<InstanceRecord>> list_instances(const InstanceStore& store);

}  // namespace reclo::recovery
