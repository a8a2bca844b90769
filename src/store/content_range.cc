#include "store/content_range.h"

#include <charconv>

namespace reclo::store {
namespace {

bool take_number(std::string_view& text, uint64_t& value, std::string_view separator) {
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc()) return false;
  text.remove_prefix(static_cast<size_t>(parsed.ptr - text.data()));
  if (!text.starts_with(separator)) return false;
  text.remove_prefix(separator.size());
  return true;
}

}  // namespace

std::optional<ContentRange> parse_content_range(std::string_view text) {
  ContentRange range;
  if (!text.starts_with("bytes ")) return std::nullopt;
  text.remove_prefix(6);
  if (!take_number(text, range.first, "-") || !take_number(text, range.last, "/") ||
      !take_number(text, range.total, "") || !text.empty())
    return std::nullopt;
  return range;
}

}  // namespace reclo::store
