#include "base/time.h"

#include <fmt/format.h>

#include <cstdio>
#include <ctime>

namespace reclo {

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
  int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0, ms = 0;
  int used = 0;
  const std::string copy(text);
  const int fields = std::sscanf(copy.c_str(), "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ%n", &year, &month,
                                 &day, &hour, &minute, &second, &ms, &used);
  if (fields != 7 || static_cast<size_t>(used) != copy.size())
    return Error(Code::kInvalidArgument, "not an RFC 3339 UTC time: '" + copy + "'");
  std::tm utc{};
  utc.tm_year = year - 1900;
  utc.tm_mon = month - 1;
  utc.tm_mday = day;
  utc.tm_hour = hour;
  utc.tm_min = minute;
  utc.tm_sec = second;
  return WallTime(std::chrono::milliseconds(static_cast<int64_t>(timegm(&utc)) * 1000 + ms));
}

}  // namespace reclo
