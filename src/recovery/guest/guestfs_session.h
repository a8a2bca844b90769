// One run of libguestfs's appliance: a small virtual machine in which the guest's file systems are
// mounted, so that no kernel of ours ever reads them.
//
// libguestfs is loaded when it is first needed: servers that only back up need not have it. The
// appliance takes 10 s to start by TCG, is ended by finish() or by the destructor, and is killed
// when its deadline or the cancel token fires.
// Thread rule: one thread at a time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/result.h"
#include "recovery/guest/guest_facts.h"
#include "recovery/guest/guest_files.h"

namespace reclo::recovery {

struct SessionDisk {
  std::string path;
  std::string format;  // "qcow2", "raw"
};

class GuestfsSession {
 public:
  /// Starts the appliance with these disks, writable. Errors: kNotFound when libguestfs or a kernel
  /// for its appliance is not installed (it says which package), kIo with libguestfs's words.
  static Result<std::unique_ptr<GuestfsSession>> start(const std::vector<SessionDisk>& disks,
                                                       const CancelToken& cancel);
  virtual ~GuestfsSession() = default;

  /// Finds the guest's Linux and mounts it, writable. Errors: kUnsupported says in words why the
  /// server cannot be prepared.
  virtual Result<GuestFacts> open_guest() = 0;
  /// The mounted guest's files. Lives as long as the session.
  virtual GuestFiles& files() = 0;
  /// Unmounts, writes everything to the disks, ends the appliance.
  virtual Status finish() = 0;
};

}  // namespace reclo::recovery
