// Sizes, rates and durations for people, and the constants behind them.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace reclo {

inline constexpr uint64_t kKiB = 1024;
inline constexpr uint64_t kMiB = 1024 * kKiB;
inline constexpr uint64_t kGiB = 1024 * kMiB;
inline constexpr uint64_t kTiB = 1024 * kGiB;

/// "1.5 GiB", "812 B".
std::string format_bytes(uint64_t size_bytes);
/// "42 ms", "3.2 s", "4 m 10 s", "2 h 5 m".
std::string format_duration(std::chrono::nanoseconds duration);
/// Reads "512", "64K", "10MiB", "2G" (powers of 1024). Errors: kInvalidArgument.
Result<uint64_t> parse_size_bytes(std::string_view text);

/// Reads "90s", "45m", "2h", "3d". Errors: kInvalidArgument, also for more than 1,000 days.
Result<std::chrono::milliseconds> parse_duration(std::string_view text);

constexpr uint64_t round_up(uint64_t value, uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}
constexpr uint64_t divide_up(uint64_t value, uint64_t divisor) {
  return value / divisor + (value % divisor != 0 ? 1 : 0);
}

}  // namespace reclo
