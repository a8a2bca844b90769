// The reclo command. Turns SIGINT and SIGTERM into a cancelled token: everything stops in order and
// can be resumed.
#include <malloc.h>
#include <pthread.h>
#include <signal.h>

#include <atomic>

#include "base/task_pool.h"
#include "cli/app.h"

namespace {

// glibc raises its threshold for mapped blocks with the largest block that was freed, and from then
// on chunks and packs fragment the heaps of many threads. Holding it where it starts costs no time
// and a third to a half of the memory (docs/performance.md).
constexpr int kMappedBlockSizeBytesMin = 128 << 10;

}  // namespace

int main(int argc, char** argv) {
  mallopt(M_MMAP_THRESHOLD, kMappedBlockSizeBytesMin);
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
