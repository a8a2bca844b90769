// A recovery point as a disk that can be written: an overlay file takes the writes, the point
// itself is never changed.
//
//   client ──NBD──► qemu-nbd (qcow2 overlay) ──NBD, private socket──► nbdkit (the point, read-only)
//
// The overlay belongs to one disk of one point, which is recorded in it; it is kept and used again.
// Invariant: a write that the client has flushed is in the overlay, whatever ends: nbdkit is
// stateless, and qemu-nbd waits for it and goes on when it is started again.
// Thread rule: one thread at a time.
#pragma once

#include <memory>
#include <string>

#include "image/nbd_export.h"
#include "os/file.h"
#include "os/subprocess.h"

namespace reclo::image {

struct WritableExportOptions {
  NbdExportOptions base;  // its socket, address and log are ours to choose
  std::string overlay_path;
  std::string socket_path;     // exactly one of socket_path and listen_address
  std::string listen_address;  // "HOST:PORT"
  std::string log_path;        // both servers' words; empty: kept in memory for errors
};

class WritableExport {
 public:
  /// Makes the overlay if it is missing, and serves. Errors: kConflict (the overlay belongs to
  /// another point, or is in use), kInvalidArgument (not an overlay), kNotFound (QEMU is not
  /// installed); those of start_nbd_export().
  static Result<std::unique_ptr<WritableExport>> start(const WritableExportOptions& options,
                                                       const crypto::SecretKey& box_secret_key,
                                                       const CancelToken& cancel);
  /// Ends both servers; what was written stays in the overlay.
  ~WritableExport();

  uint64_t size_bytes() const { return size_bytes_; }
  /// Runs until `cancel` fires (then success); starts a server again that ended. Errors: when one
  /// ends again and again.
  Status supervise(const CancelToken& cancel);
  /// For tests, while nothing supervises: the read-only server, and the one that clients talk to.
  pid_t base_pid() const { return base_.pid; }
  pid_t server_pid() const { return server_pid_; }

 private:
  WritableExport(const WritableExportOptions& options, os::TempDir folder);
  Status check_or_make_overlay(const CancelToken& cancel);
  Status start_base(const CancelToken& cancel);
  Status start_overlay_server(const CancelToken& cancel);
  std::string export_name() const;
  std::string backing_name() const;

  WritableExportOptions options_;
  const os::TempDir folder_;
  crypto::SecretKey box_secret_key_;
  NbdExport base_;
  pid_t server_pid_ = -1;
  uint64_t size_bytes_ = 0;
};

}  // namespace reclo::image
