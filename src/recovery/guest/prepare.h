// Making a recovery point bootable elsewhere, without touching it.
//
//   export (NBD, read-only, what is read is logged) ◀── qcow2, thrown away ◀── libguestfs: fixes
//                                                          │ pages that differ
//                                                          ▼
//                    STATE_DIR/prepared/<repository>/<machine>/<target>-<options>.overlay
//
// A newer point whose maps do not differ from the prepared one's in anything that was read (or is
// laid over) takes the overlay as it is; else it is made anew. A crash leaves the old overlay, or
// the new one; work files are in a folder of the preparation's own and removed by the next one.
// Thread rule: one thread at a time.
#pragma once

#include <memory>
#include <string>

#include "base/progress.h"
#include "crypto/secret.h"
#include "recovery/ec2/standby.h"
#include "recovery/guest/prepared_overlay.h"
#include "store/open_store.h"

namespace reclo::recovery {

struct PrepareRequest {
  store::StoreOptions store;  // how the exports reach the repository
  MachineId machine;
  std::string repository;  // its id, in hex
  std::string state_directory;
  PrepareChoices choices;  // server, point and made are filled in
  bool dry_run = false;    // find out everything, keep nothing
  bool anew = false;       // trust no overlay that is there
};

struct PrepareResult {
  PreparedRecord record;
  std::shared_ptr<const PreparedOverlay> overlay;  // none after a dry run, or when not bootable
  std::string path;
  bool cached = false;
};

/// `base` is the point; `box` its repository's unlocked key. A server that will not start is no
/// error here: the record's verdict says why. Errors: kNotFound (libguestfs, nbdkit, qemu-img or a
/// kernel is not installed), kNoSpace, kIo, kConflict while another preparation of it runs.
Result<PrepareResult> prepare_point(const PrepareRequest& request, StandbySource& base,
                                    const crypto::SecretKey& box, ProgressSink& progress,
                                    const CancelToken& cancel);

/// Takes a preparation back on a server's disks: images (raw or qcow2) or block devices, in the
/// order of its disks. Errors: as GuestfsSession.
Result<UnprepareReport> unprepare_guest(const std::vector<std::string>& disks,
                                        const CancelToken& cancel);

}  // namespace reclo::recovery
