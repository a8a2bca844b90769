// The reclo command. Turns SIGINT and SIGTERM into a cancelled token: everything stops in order and
// can be resumed.
#include <pthread.h>
#include <signal.h>

#include <atomic>

#include "base/task_pool.h"
#include "cli/app.h"

int main(int argc, char** argv) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);  // a file size limit is then an error with a message

  std::stop_source stop;
  std::atomic<bool> done = false;
  reclo::TaskPool watcher(1);
  watcher.run([&] {
    while (!done) {
      const timespec patience{0, 100'000'000};
      if (sigtimedwait(&signals, nullptr, &patience) > 0) {
        stop.request_stop();
        // A second signal ends the process at once: its journal makes that safe too.
        pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
        return;
      }
    }
  });
  const int code = reclo::cli::run_app(argc, argv, reclo::CancelToken(stop.get_token()));
  done = true;
  return code;
}
