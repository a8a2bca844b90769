#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace reclo::detail {

void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "reclo: broken invariant: %s (%s:%d). Please report this.\n", condition,
               file, line);
  std::abort();
}

}  // namespace reclo::detail
