// Serving a recovery point's disk as NBD: an nbdkit process with ReClo's plugin, listening on a
// Unix socket or a TCP address.
//
// The server process is its own session: it outlives us when asked to (instances), or ends with us.
// It is stateless (its cache can be lost), so it may be killed and started again at any time.
// The unlocked repository key reaches it through an inherited memory file, never by argument
// vector, environment or disk.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "base/cancel.h"
#include "base/ids.h"
#include "base/result.h"
#include "crypto/secret.h"
#include "store/open_store.h"

namespace reclo::image {

struct NbdExportOptions {
  store::StoreOptions store;  // how to reach the repository; credentials come from the environment
  MachineId machine;
  PointId point;
  uint32_t disk_index = 0;
  std::string socket_path;      // exactly one of socket_path and listen_address
  std::string listen_address;   // "HOST:PORT"
  std::string cache_directory;  // ciphertext cache, made if missing
  uint64_t cache_size_bytes = uint64_t{4} << 30;
  std::string log_path;         // nbdkit's stderr is appended here
  std::string read_log_path;    // nbdkit's log of each request goes there; empty: none
  bool die_with_parent = true;  // false: outlives this process
};

/// A running server. Destruction leaves it running; stop() ends it.
struct NbdExport {
  pid_t pid = -1;
  std::string socket_path;
  uint64_t size_bytes = 0;
};

/// Starts the server and waits until it answers an NBD handshake. `box_secret_key` is the unlocked
/// repository key (its X25519 secret half).
/// Errors: kNotFound (nbdkit or the plugin is not installed), kCorruption, kUnavailable, kTimeout:
/// with the server's last log line.
Result<NbdExport> start_nbd_export(const NbdExportOptions& options,
                                   const crypto::SecretKey& box_secret_key,
                                   const CancelToken& cancel);
/// SIGTERM, then SIGKILL; success when it is already gone.
void stop_nbd_export(pid_t pid);

}  // namespace reclo::image
