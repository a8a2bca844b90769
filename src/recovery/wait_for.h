// Waiting for a recovered server's first answer.
//
// QEMU's user network accepts a connection to a forwarded port long before the guest does, so an
// accepted connection alone proves nothing there: the caller says whether the guest's side of it is
// established (QEMU's own table of connections). Any thread; blocks.
#pragma once

#include <functional>

#include "base/cancel.h"
#include "recovery/forward.h"

namespace reclo::recovery {

/// Whether QEMU has an established connection to the guest behind the forward at address:port.
using EstablishedCheck = std::function<Result<bool>(const WaitTarget&)>;

enum class Probe {
  kNobody,    // nothing listens yet
  kNotReady,  // somebody does, and is not ready: a server error, no answer, a closed connection
  kAnswered,
};

/// One attempt, taking a second at most unless the guest has accepted the connection (then
/// half a minute, for a slow first page). Errors: only of `established`.
Result<Probe> probe_target(const WaitTarget& target, const EstablishedCheck& established,
                           const CancelToken& cancel);

/// How long to leave the guest alone after an attempt. A request costs it work just when it has the
/// most to do: asked again at once, a page that fails after two seconds of a single processor's
/// time keeps the database from starting that it waits for (a boot took three times as long here).
std::chrono::milliseconds pause_after(Probe probe, std::chrono::nanoseconds attempt_took);

/// Whether HMP "info usernet" shows such a connection. Bounded; malformed lines are skipped.
bool usernet_established(std::string_view info_usernet, const WaitTarget& target);

/// The status code of an HTTP response's first line; 0 when there is none yet or it is not HTTP.
int http_status(std::string_view response);

}  // namespace reclo::recovery
