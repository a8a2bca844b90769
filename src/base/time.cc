#include "base/time.h"

#include <fmt/format.h>

#include <array>
#include <ctime>

namespace reclo {
namespace {

constexpr std::string_view kTimeForm = "0000-00-00T00:00:00";
constexpr size_t kTimeSizeMax = 40;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

WallTime wall_now() {
  return std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
}

std::string format_time(WallTime time) {
  const int64_t ms = time.time_since_epoch().count();
  const int64_t whole = ms >= 0 ? ms / 1000 : (ms - 999) / 1000;
  const std::time_t seconds = whole;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", utc.tm_year + 1900,
                     utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
                     ms - whole * 1000);
}

Result<WallTime> parse_time(std::string_view text) {
  namespace chrono = std::chrono;
  const Error bad(Code::kInvalidArgument,
                  fmt::format("not an RFC 3339 UTC time: '{}'", text.substr(0, kTimeSizeMax)));
  // "2026-11-23T07:05:09Z", with any fraction of a second before the Z.
  if (text.size() < kTimeForm.size() + 1 || text.size() > kTimeSizeMax || text.back() != 'Z')
    return bad;
  std::string_view fraction = text.substr(kTimeForm.size());
  fraction.remove_suffix(1);
  if (!fraction.empty() && (fraction.size() == 1 || fraction.front() != '.')) return bad;
  int ms = 0;
  for (size_t i = 1; i < fraction.size(); ++i) {
    if (!is_digit(fraction[i])) return bad;
    if (i <= 3) ms = ms * 10 + (fraction[i] - '0');
  }
  for (size_t i = fraction.size(); !fraction.empty() && i <= 3; ++i) ms *= 10;

  std::array<int, 6> fields{};  // year to second
  size_t field = 0;
  for (size_t i = 0; i < kTimeForm.size(); ++i) {
    if (kTimeForm[i] == '0') {
      if (!is_digit(text[i])) return bad;
      fields[field] = fields[field] * 10 + (text[i] - '0');
    } else {
      if (text[i] != kTimeForm[i]) return bad;
      ++field;
    }
  }
  const auto [year, month, day, hour, minute, second] = fields;
  const chrono::year_month_day date{chrono::year(year), chrono::month(static_cast<unsigned>(month)),
                                    chrono::day(static_cast<unsigned>(day))};
  if (!date.ok() || hour > 23 || minute > 59 || second > 60) return bad;  // 60: a leap second
  return WallTime(chrono::sys_days(date).time_since_epoch() + chrono::hours(hour) +
                  chrono::minutes(minute) + chrono::seconds(second) + chrono::milliseconds(ms));
}

}  // namespace reclo
