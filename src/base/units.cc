#include "base/units.h"

#include <fmt/format.h>

#include <array>
#include <cctype>
#include <charconv>

namespace reclo {

std::string format_bytes(uint64_t size_bytes) {
  static constexpr std::array<std::string_view, 6> kUnits = {"B",   "KiB", "MiB",
                                                             "GiB", "TiB", "PiB"};
  if (size_bytes < 1024) return fmt::format("{} B", size_bytes);
  double value = static_cast<double>(size_bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  const int decimals = value < 10 ? 2 : value < 100 ? 1 : 0;
  return fmt::format("{:.{}f} {}", value, decimals, kUnits[unit]);
}

std::string format_duration(std::chrono::nanoseconds duration) {
  const double seconds = std::chrono::duration<double>(duration).count();
  if (seconds < 1) return fmt::format("{:.0f} ms", seconds * 1000);
  if (seconds < 100) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<uint64_t>(seconds);
  if (whole < 3600) return fmt::format("{} m {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} m", whole / 3600, whole % 3600 / 60);
}

Result<uint64_t> parse_size_bytes(std::string_view text) {
  uint64_t value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string wrong =
      "not a size: '" + std::string(text) + "' (write for example 512M, 10GiB or 4096)";
  if (failure != std::errc()) return Error(Code::kInvalidArgument, wrong);
  std::string suffix(end, text.data() + text.size());
  for (char& c : suffix) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  if (suffix.size() > 1 && suffix.substr(1) != "B" && suffix.substr(1) != "IB")
    return Error(Code::kInvalidArgument, wrong);
  static constexpr std::string_view kPrefixes = "BKMGT";
  const size_t power = suffix.empty() ? 0 : kPrefixes.find(suffix[0]);
  if (power == std::string_view::npos) return Error(Code::kInvalidArgument, wrong);
  for (size_t i = 0; i < power; ++i) {
    if (value > UINT64_MAX / 1024) return Error(Code::kInvalidArgument, wrong);
    value *= 1024;
  }
  return value;
}

Result<std::chrono::milliseconds> parse_duration(std::string_view text) {
  constexpr uint64_t kDaysMax = 1000;
  uint64_t value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit = text.substr(static_cast<size_t>(end - text.data()));
  const uint64_t seconds = unit == "s"   ? 1
                           : unit == "m" ? 60
                           : unit == "h" ? 3600
                           : unit == "d" ? 86'400
                                         : 0;
  if (failure != std::errc() || seconds == 0 || value > kDaysMax * 86'400 / seconds)
    return Error(Code::kInvalidArgument,
                 "not a duration: '" + std::string(text) + "' (write for example 90s, 45m, 2h)");
  return std::chrono::milliseconds(value * seconds * 1000);
}

}  // namespace reclo
