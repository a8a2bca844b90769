#include "cloud/resource_id.h"

#include <fmt/format.h>

#include <algorithm>

namespace reclo::cloud::detail {

Status check_resource_id(std::string_view text, std::string_view prefix, std::string_view kind) {
  constexpr size_t kNameSizeMax = 40;
  const auto plain = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z'); };
  const std::string_view name = text.substr(std::min(prefix.size(), text.size()));
  if (text.starts_with(prefix) && !name.empty() && name.size() <= kNameSizeMax &&
      std::all_of(name.begin(), name.end(), plain))
    return {};
  return Error(Code::kInvalidArgument, fmt::format("'{}' is no {}: these begin with '{}'",
                                                   text.substr(0, 60), kind, prefix));
}

}  // namespace reclo::cloud::detail
