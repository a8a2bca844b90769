// The few socket calls that recovery needs, with deadlines. Any thread.
#pragma once

#include <sys/un.h>

#include <string>

#include "base/cancel.h"
#include "os/fd.h"

namespace reclo::recovery {

/// What a Unix socket's path may hold, without its terminating zero.
inline constexpr size_t kSocketPathSizeMax = sizeof(sockaddr_un::sun_path) - 1;

/// A connected, non-blocking socket. Errors: kUnavailable when nobody listens there,
/// kInvalidArgument when the path is too long.
Result<os::Fd> connect_unix(const std::string& path);

/// Waits for poll(2) `events` on the descriptor. Errors: kTimeout, kCancelled, kIo.
Status wait_ready(const os::Fd& fd, short events, const CancelToken& cancel);

}  // namespace reclo::recovery
