// RECLO_CHECK: always on, for our own broken invariants, never for input.
#pragma once

namespace reclo::detail {
[[noreturn]] void check_failed(const char* condition, const char* file, int line);
}

#define RECLO_CHECK(condition)            \
  (static_cast<bool>(condition) ? void(0) \
                                : ::reclo::detail::check_failed(#condition, __FILE__, __LINE__))
