#include "base/json.h"

#include <limits>

namespace reclo {
namespace detail {

Error json_field_error(std::string_view key, std::string_view wanted) {
  return Error(Code::kCorruption,
               "field '" + std::string(key) + "' is missing or not " + std::string(wanted));
}

const Json* json_find(const Json& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

}  // namespace detail

using detail::json_field_error;
using detail::json_find;

Result<Json> parse_json(std::string_view text, std::string_view what, size_t size_bytes_max) {
  if (text.size() > size_bytes_max)
    return Error(Code::kCorruption, std::string(what) + ": larger than any valid one");
  static constexpr int kDepthMax = 32;
  bool too_deep = false;
  const auto limit_depth = [&](int depth, Json::parse_event_t, Json&) {
    if (depth > kDepthMax) too_deep = true;
    return !too_deep;
  };
  Json json = Json::parse(text, limit_depth, /*allow_exceptions=*/false);
  if (too_deep || json.is_discarded())
    return Error(Code::kCorruption, std::string(what) + ": not valid JSON");
  return json;
}

std::string dump_json(const Json& json, int indent) {
  return json.dump(indent, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

template <>
Result<std::string> json_get(const Json& object, std::string_view key) {
  const Json* found = json_find(object, key);
  if (found == nullptr || !found->is_string()) return json_field_error(key, "a text");
  return found->get_ref<const std::string&>();
}
template <>
Result<bool> json_get(const Json& object, std::string_view key) {
  const Json* found = json_find(object, key);
  if (found == nullptr || !found->is_boolean()) return json_field_error(key, "true or false");
  return found->get<bool>();
}
template <>
Result<uint64_t> json_get(const Json& object, std::string_view key) {
  const Json* found = json_find(object, key);
  if (found == nullptr || !found->is_number_unsigned())
    return json_field_error(key, "a whole number of 0 or more");
  return found->get<uint64_t>();
}
template <>
Result<uint32_t> json_get(const Json& object, std::string_view key) {
  RECLO_ASSIGN_OR_RETURN(const uint64_t wide, json_get<uint64_t>(object, key));
  if (wide > std::numeric_limits<uint32_t>::max()) return json_field_error(key, "below 2^32");
  return static_cast<uint32_t>(wide);
}
template <>
Result<int64_t> json_get(const Json& object, std::string_view key) {
  const Json* found = json_find(object, key);
  if (found == nullptr || !found->is_number_integer())
    return json_field_error(key, "a whole number");
  if (found->is_number_unsigned() &&
      found->get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
    return json_field_error(key, "below 2^63");
  return found->get<int64_t>();
}
template <>
Result<double> json_get(const Json& object, std::string_view key) {
  const Json* found = json_find(object, key);
  if (found == nullptr || !found->is_number()) return json_field_error(key, "a number");
  return found->get<double>();
}

Result<const Json*> json_array(const Json& object, std::string_view key) {
  const Json* found = json_find(object, key);
  if (found == nullptr || !found->is_array()) return json_field_error(key, "a list");
  return found;
}
Result<const Json*> json_object(const Json& object, std::string_view key) {
  const Json* found = json_find(object, key);
  if (found == nullptr || !found->is_object()) return json_field_error(key, "an object");
  return found;
}

}  // namespace reclo
