#include "base/cancel.h"

namespace reclo {

Status CancelToken::sleep_for(std::chrono::milliseconds duration) const {
  Time until = std::chrono::steady_clock::now() + duration;
  if (deadline_ && *deadline_ < until) until = *deadline_;
  std::mutex mutex;
  std::condition_variable_any wake;
  std::unique_lock lock(mutex);
  wake.wait_until(lock, stop_, until, [] { return false; });
  return check();
}

}  // namespace reclo
