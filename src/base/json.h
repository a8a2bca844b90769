// JSON without exceptions: parse and typed field access that return Result. Include this only in
// .cc files (nlohmann is slow to compile).
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

namespace reclo {

using Json = nlohmann::json;

/// Parses at most `size_bytes_max` of text, nesting at most 32 deep. Errors: kCorruption with
/// `what` named.
Result<Json> parse_json(std::string_view text, std::string_view what,
                        size_t size_bytes_max = size_t{16} << 20);

/// The text of `json`. Bytes that are not UTF-8 (a disk's path may have some) become U+FFFD.
std::string dump_json(const Json& json, int indent = -1);

namespace detail {
Error json_field_error(std::string_view key, std::string_view wanted);
const Json* json_find(const Json& object, std::string_view key);
}  // namespace detail

/// A field that must be there. T: std::string, bool, int64_t, uint64_t, uint32_t, double.
template <class T>
Result<T> json_get(const Json& object, std::string_view key);

/// A field that may be missing or null.
template <class T>
Result<T> json_get_or(const Json& object, std::string_view key, T fallback) {
  const Json* found = detail::json_find(object, key);
  if (found == nullptr || found->is_null()) return fallback;
  return json_get<T>(object, key);
}

/// An array or object field that must be there; the pointer lives as long as `object`.
Result<const Json*> json_array(const Json& object, std::string_view key);
Result<const Json*> json_object(const Json& object, std::string_view key);

}  // namespace reclo
