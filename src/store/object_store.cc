#include "store/object_store.h"

#include <fmt/format.h>

#include <algorithm>

#include "os/file.h"

namespace reclo::store {
namespace {

constexpr size_t kKeySizeBytesMax = 512;

bool is_key_character(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '_' || c == '-';
}

bool is_key_part(std::string_view part) {
  return !part.empty() && part != "." && part != ".." && !part.starts_with(os::kTempPrefix) &&
         std::all_of(part.begin(), part.end(), is_key_character);
}

}  // namespace

Status check_key(const std::string& key) {
  const Error bad(Code::kInvalidArgument, fmt::format("'{}' is not an object key", key));
  if (key.empty() || key.size() > kKeySizeBytesMax) return bad;
  std::string_view rest = key;
  for (;;) {
    const size_t slash = rest.find('/');
    if (!is_key_part(rest.substr(0, slash))) return bad;
    if (slash == std::string_view::npos) return {};
    rest.remove_prefix(slash + 1);
  }
}

Status check_prefix(const std::string& prefix) {
  if (prefix.empty()) return {};
  const std::string key = prefix.ends_with('/') ? prefix.substr(0, prefix.size() - 1) : prefix;
  if (!check_key(key).ok())
    return Error(Code::kInvalidArgument,
                 fmt::format("'{}' is not a prefix of object keys", prefix));
  return {};
}

Status check_folder_prefix(const std::string& prefix) {
  if (!prefix.empty() && !prefix.ends_with('/'))
    return Error(Code::kInvalidArgument, fmt::format("'{}' does not end in '/'", prefix));
  return check_prefix(prefix);
}

Status check_range(const std::string& key, ByteRange range) {
  constexpr uint64_t kMax = uint64_t{1} << 62;
  if (range.size_bytes == 0 || range.size_bytes > kMax || range.offset_bytes > kMax)
    return Error(Code::kInvalidArgument, fmt::format("not a range of '{}': {} bytes at {}", key,
                                                     range.size_bytes, range.offset_bytes));
  return {};
}

Error already_exists(const std::string& key) {
  return Error(Code::kAlreadyExists, fmt::format("object '{}' exists already", key));
}

Error range_past_end(const std::string& key, ByteRange range, uint64_t object_size_bytes) {
  return Error(Code::kCorruption,
               fmt::format("object '{}' has {} bytes, but {} bytes at {} should be in it", key,
                           object_size_bytes, range.size_bytes, range.offset_bytes));
}

void AtomicCounters::add_put(size_t payload_bytes) {
  ++requests_put;
  sent_bytes += payload_bytes;
}
void AtomicCounters::add_get(size_t payload_bytes) {
  ++requests_get;
  received_bytes += payload_bytes;
}

StoreCounters AtomicCounters::snapshot() const {
  return {.requests_put = requests_put,
          .requests_get = requests_get,
          .requests_list = requests_list,
          .requests_other = requests_other,
          .retries = retries,
          .sent_bytes = sent_bytes,
          .received_bytes = received_bytes};
}

}  // namespace reclo::store
