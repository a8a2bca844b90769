// The process that looks after one running instance: `reclo instance-supervisor`.
//
// Twice a second it looks; a disk's server that died is started again (the guest waits meanwhile,
// QEMU reconnects); with --hydrate it brings the disks into their overlays one after the other and
// ends each server that is needed no more; when QEMU has ended it ends the servers, records how,
// and leaves. It holds the unlocked key in memory (handed over through an inherited memory file)
// and may die at any time: nothing depends on it but this comfort, and resume_instance() starts a
// new one.
//
//   look ─▶ QEMU gone? ─▶ record, end servers, leave
//     │        │no
//     │        ▼
//     │     restart dead servers ─▶ hydrate one step ─▶ save ─▶ sleep ─┐
//     └────────────────────────────────────────────────────────────────┘
//
// One thread. It takes the instance's lock only for each look, so commands get their turn.
#pragma once

#include "crypto/secret.h"
#include "recovery/disk_exporter.h"
#include "recovery/instance_store.h"

namespace reclo::recovery {

struct SuperviseOptions {
  std::chrono::milliseconds look_every{500};
};

/// Returns when QEMU has ended, the instance was stopped or deleted, or `cancel` fired (success).
/// `exporter` may be null when no disk needs its base. Errors: kConflict when a supervisor of this
/// instance runs already; a broken instance folder.
Status supervise(const InstanceStore& store, const std::string& id, DiskExporter* exporter,
                 const SuperviseOptions& options, const CancelToken& cancel);

/// Reads the 32 key bytes from a descriptor and closes it. Errors: kInvalidArgument.
Result<crypto::SecretKey> read_key_descriptor(int fd);

/// Sets state and problem of a record whose QEMU has ended: stopped when it removed its pid file
/// (an orderly end: the guest switched itself off), else failed.
void note_machine_end(const InstanceStore& store, InstanceRecord& record);

}  // namespace reclo::recovery
