// The Content-Range header of an answer to a range request (RFC 9110 §14.4). Any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace reclo::store {

struct ContentRange {
  uint64_t first = 0;
  uint64_t last = 0;  // inclusive
  uint64_t total = 0;
};

/// "bytes 0-99/1000" and nothing else.
std::optional<ContentRange> parse_content_range(std::string_view text);

}  // namespace reclo::store
