// Wall-clock time as RFC 3339 UTC text with milliseconds, and a clock that tests can set.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "base/result.h"

namespace reclo {

using WallTime = std::chrono::time_point<std::chrono::system_clock, std::chrono::milliseconds>;

WallTime wall_now();
/// "2026-11-23T07:05:09.120Z"
std::string format_time(WallTime time);
/// RFC 3339 in UTC ("Z"), with or without a fraction of a second, which is cut to milliseconds.
Result<WallTime> parse_time(std::string_view text);

/// Measures from construction on.
class Stopwatch {
 public:
  std::chrono::nanoseconds elapsed() const { return std::chrono::steady_clock::now() - start_; }
  double seconds() const { return std::chrono::duration<double>(elapsed()).count(); }
  void restart() { start_ = std::chrono::steady_clock::now(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace reclo
