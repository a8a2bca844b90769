// The folders of recovered servers: STATE_DIR/instances/<id>/.
//
//   instance.json  lock  supervisor.lock  overlay-N.qcow2  cache-N/  uefi-vars.fd
//   nbd-N.log  qemu.log  serial.log  supervisor.log  qemu.pid
//   nbd-N.sock  qmp.sock  vnc.sock   (in a short folder under /run or /tmp when the path is too
//                                     long for a Unix socket)
//
// Whoever changes an instance holds its lock; reading needs none (instance.json is replaced whole).
// Thread rule: safe from any thread.
#pragma once

#include <string>
#include <vector>

#include "base/cancel.h"
#include "os/file.h"
#include "recovery/instance_record.h"

namespace reclo::recovery {

/// Where the parts of one instance are.
struct InstancePaths {
  std::string folder;
  std::string run_dir;

  std::string in_folder(std::string_view name) const { return os::join_path(folder, name); }
  std::string overlay(uint32_t disk_index) const;
  std::string cache(uint32_t disk_index) const;
  std::string nbd_socket(uint32_t disk_index) const;
  std::string nbd_log(uint32_t disk_index) const;
  std::string qmp_socket() const { return os::join_path(run_dir, "qmp.sock"); }
  std::string vnc_socket() const { return os::join_path(run_dir, "vnc.sock"); }
  std::string qemu_log() const { return in_folder("qemu.log"); }
  std::string serial_log() const { return in_folder("serial.log"); }
  std::string pid_file() const { return in_folder("qemu.pid"); }
  std::string uefi_vars() const { return in_folder("uefi-vars.fd"); }
  std::string supervisor_log() const { return in_folder("supervisor.log"); }
  std::string supervisor_lock() const { return in_folder("supervisor.lock"); }
};

class InstanceStore {
 public:
  explicit InstanceStore(std::string state_dir) : state_dir_(std::move(state_dir)) {}

  /// Gives the record an id and a run folder, and makes its folder. Errors: kConflict when another
  /// instance has this name, kIo.
  Status create(InstanceRecord& record) const;
  /// Makes the run folder again when it is gone (a restart empties /run and /tmp).
  Status ensure_run_dir(const InstanceRecord& record) const;
  Result<InstanceRecord> load(const std::string& id) const;
  Status save(const InstanceRecord& record) const;
  /// The id that a user's word means: an id, a unique prefix of one, or a name.
  /// Errors: kNotFound, kInvalidArgument (ambiguous).
  Result<std::string> find(const std::string& reference) const;
  /// All, oldest first. An unreadable one is an error that names it.
  Result<std::vector<InstanceRecord>> list() const;
  /// Removes folder and run folder. Nothing of it may run.
  Status remove(const InstanceRecord& record) const;

  /// Waits for the lock. Errors: kConflict when somebody else holds it for `timeout`.
  Result<os::FileLock> lock(const std::string& id, std::chrono::milliseconds timeout,
                            const CancelToken& cancel) const;

  InstancePaths paths(const InstanceRecord& record) const;
  const std::string& state_dir() const { return state_dir_; }

 private:
  std::string folder(const std::string& id) const;
  std::string state_dir_;
};

}  // namespace reclo::recovery
