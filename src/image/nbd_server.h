// Starting and stopping the NBD server programs of this machine (nbdkit, qemu-nbd), and asking one
// whether it answers.
// Thread rule: free functions, safe from any thread.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.h"
#include "base/result.h"
#include "os/subprocess.h"

namespace reclo::image {

/// Where a server listens or is listened to: a Unix socket, or a TCP address.
struct NbdAddress {
  std::string socket_path;  // when not empty
  std::string host;
  std::string port;
  std::string text() const { return socket_path.empty() ? host + ":" + port : socket_path; }
};
/// `socket_path`, or "HOST:PORT" ("[::1]:10809", ":10809" for every address of the machine):
/// exactly one. Errors: kInvalidArgument.
Result<NbdAddress> parse_nbd_address(const std::string& socket_path,
                                     const std::string& listen_address);

/// Connects, shakes hands, and leaves. Returns the export's size. Errors: kUnavailable.
Result<uint64_t> ask_nbd_size(const NbdAddress& address);

/// Starts a program from a thread that lives as long as this process: a child that is to die with
/// its parent really dies with the thread that made it.
Result<os::Subprocess> start_server(const os::SpawnOptions& options);

/// Waits until the server answers at `address`. Returns the export's size. Errors: kUnavailable
/// when it ended before, with `last_words()`; kTimeout.
Result<uint64_t> wait_for_server(os::Subprocess& server, const NbdAddress& address,
                                 const std::function<Error()>& last_words,
                                 const CancelToken& cancel);

/// SIGTERM, then SIGKILL after ten seconds, to a process whose command line holds `needle`; success
/// when there is none such.
void stop_server(pid_t pid, std::string_view needle);

/// Whether that server still runs; buries it when it was our child.
bool server_alive(pid_t pid, std::string_view needle);

/// "nbd+unix:///EXPORT?socket=PATH" for QEMU's and libnbd's tools.
std::string nbd_uri(const std::string& socket_path, std::string_view export_name);

/// The last lines of a log file, at most `size_bytes_max`; "" when there are none.
std::string end_of_log(const std::string& path, size_t size_bytes_max = 2000);

}  // namespace reclo::image
