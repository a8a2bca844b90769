// The idempotent steps that bring an instance up and down. Each looks at what is really there (live
// processes, sockets that answer, overlay headers), does only what is missing, and notes process
// ids in the record before anything else can go wrong.
//
// Whoever calls these holds the instance's lock. One thread at a time.
#pragma once

#include <memory>

#include "base/progress.h"
#include "recovery/disk_exporter.h"
#include "recovery/instance_store.h"
#include "recovery/qmp.h"

namespace reclo::recovery {

struct Workbench {
  const InstanceStore& store;
  InstanceRecord& record;
  DiskExporter* exporter;  // null: only what needs none can be done
  ProgressSink& progress;
  const CancelToken& cancel;

  InstancePaths paths() const { return store.paths(record); }
};

/// Runs `work` as a named, timed step and records it with the state that follows.
Status run_step(Workbench& bench, std::string_view name, InstanceState after,
                const std::function<Status()>& work);

/// Whether a disk's overlay still reads from the recovery point (true before it is made).
Result<bool> needs_base(const Workbench& bench, const DiskRecord& disk);

/// A server for this disk that answers on its socket; starts one when there is none.
/// Errors: kConflict when it serves another size than the recovery point's disk has.
Status ensure_export(Workbench& bench, DiskRecord& disk);
/// One for each disk that needs its base; also finds out the firmware the first time.
Status ensure_exports(Workbench& bench);
/// The overlays. Makes missing ones the first time only: a lost overlay is an error, because its
/// guest writes are lost with it.
Status ensure_overlays(Workbench& bench);
/// A running QEMU that answers on its control socket.
/// Errors: with QEMU's last words.
Status ensure_machine(Workbench& bench);

/// Ends a disk's server and, when asked, drops its cache.
Status end_export(Workbench& bench, DiskRecord& disk, bool drop_cache);
/// Ends QEMU: by the guest's own shutdown for at most `powerdown_timeout` (0: not asked), then
/// QEMU's orderly quit, then SIGKILL.
Status end_machine(Workbench& bench, std::chrono::milliseconds powerdown_timeout);
/// Ends the supervisor, so that it does not bring back what is being stopped.
Status end_supervisor(Workbench& bench);

/// The last lines of a log, at most about 1500 characters, control characters made visible. `from`:
/// where the part of interest begins.
std::string log_tail(const std::string& path, uint64_t from = 0);

int64_t unix_ms_now();

}  // namespace reclo::recovery
