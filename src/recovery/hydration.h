// Bringing the rest of a disk into its overlay while the guest runs (QEMU's block-stream), so that
// the recovery point is needed no more.
//
// The job is not allowed to end by itself (auto-finalize off): QEMU 7.2 writes "no backing file"
// into the overlay's header while the tables that say where the streamed data lies are still in its
// memory, and a QEMU killed at that moment leaves an empty disk (seen here). So, when all data is
// copied: QEMU's caches are written out, the file is fsynced, and its own tables are read to see
// that nothing is missing; only then may the job end. docs: src/recovery/README.md.
//
// The job lives in QEMU: it survives our death, and each call continues from what QEMU says.
// One thread at a time; holds the instance's lock.
#pragma once

#include "recovery/machine_control.h"

namespace reclo::recovery {

/// Takes a disk one step further. Returns true when its overlay stands alone, durably. The base's
/// server may then be ended. Errors: the job failed (the guest goes on, reading lazily);
/// kUnavailable when QEMU does not answer.
Result<bool> hydrate_disk_once(Workbench& bench, QmpClient& qmp, DiskRecord& disk);

}  // namespace reclo::recovery
