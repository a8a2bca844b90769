#include "os/random.h"

#include <sys/random.h>

#include <cerrno>

namespace reclo::os {

void fill_random(MutableByteSpan out) {
  while (!out.empty()) {
    const ssize_t got = ::getrandom(out.data(), out.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    RECLO_CHECK(got > 0);
    out = out.subspan(static_cast<size_t>(got));
  }
}

uint64_t random_below(uint64_t bound) {
  RECLO_CHECK(bound > 0);
  uint8_t bytes[8];
  fill_random(bytes);
  return load_le<uint64_t>(bytes) % bound;
}

}  // namespace reclo::os
