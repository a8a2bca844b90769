#include "store/memory_store.h"

#include <fmt/format.h>

#include <mutex>

namespace reclo::store {

Result<MemoryStore::Object> MemoryStore::find(const std::string& key) const {
  const std::shared_lock lock(mutex_);
  const auto found = objects_.find(key);
  if (found == objects_.end()) return Error(Code::kNotFound, fmt::format("no object '{}'", key));
  return found->second;
}

Status MemoryStore::put_if_absent(const std::string& key, ByteSpan content,
                                  const CancelToken& cancel) {
  RECLO_TRY(check_key(key));
  RECLO_TRY(cancel.check());
  counters_.add_put(content.size());
  Object object{std::make_shared<const Bytes>(content.begin(), content.end()), wall_now()};
  const std::unique_lock lock(mutex_);
  if (!objects_.emplace(key, std::move(object)).second) return already_exists(key);
  return {};
}

Result<Bytes> MemoryStore::get(const std::string& key, uint64_t size_bytes_max,
                               const CancelToken& cancel) {
  RECLO_TRY(check_key(key));
  RECLO_TRY(cancel.check());
  RECLO_ASSIGN_OR_RETURN(const Object object, find(key));
  if (object.content->size() > size_bytes_max)
    return Error(Code::kResourceExhausted,
                 fmt::format("object '{}' has {} bytes, more than the {} allowed", key,
                             object.content->size(), size_bytes_max));
  counters_.add_get(object.content->size());
  return *object.content;
}

Result<Bytes> MemoryStore::get_range(const std::string& key, ByteRange range,
                                     const CancelToken& cancel) {
  RECLO_TRY(check_key(key));
  RECLO_TRY(check_range(key, range));
  RECLO_TRY(cancel.check());
  RECLO_ASSIGN_OR_RETURN(const Object object, find(key));
  const Bytes& content = *object.content;
  if (range.offset_bytes > content.size() || range.size_bytes > content.size() - range.offset_bytes)
    return range_past_end(key, range, content.size());
  counters_.add_get(range.size_bytes);
  return to_bytes(ByteSpan(content).subspan(range.offset_bytes, range.size_bytes));
}

Result<ObjectInfo> MemoryStore::stat(const std::string& key, const CancelToken& cancel) {
  RECLO_TRY(check_key(key));
  RECLO_TRY(cancel.check());
  ++counters_.requests_other;
  RECLO_ASSIGN_OR_RETURN(const Object object, find(key));
  return ObjectInfo{key, object.content->size(), object.modified};
}

Status MemoryStore::list(const std::string& prefix,
                         const std::function<Status(const ObjectInfo&)>& visit,
                         const CancelToken& cancel) {
  RECLO_TRY(check_prefix(prefix));
  ++counters_.requests_list;
  std::vector<ObjectInfo> found;
  {
    const std::shared_lock lock(mutex_);
    for (auto at = objects_.lower_bound(prefix);
         at != objects_.end() && at->first.starts_with(prefix); ++at)
      found.push_back({at->first, at->second.content->size(), at->second.modified});
  }
  for (const ObjectInfo& info : found) {
    RECLO_TRY(cancel.check());
    RECLO_TRY(visit(info));
  }
  return {};
}

Result<std::vector<std::string>> MemoryStore::list_children(const std::string& prefix,
                                                            const CancelToken& cancel) {
  RECLO_TRY(check_folder_prefix(prefix));
  std::vector<std::string> names;
  RECLO_TRY(list(
      prefix,
      [&](const ObjectInfo& info) -> Status {
        std::string name = info.key.substr(prefix.size());
        if (const size_t slash = name.find('/'); slash != std::string::npos) name.resize(slash + 1);
        if (names.empty() || names.back() != name) names.push_back(std::move(name));
        return {};
      },
      cancel));
  return names;
}

Status MemoryStore::remove(const std::string& key, const CancelToken& cancel) {
  RECLO_TRY(check_key(key));
  RECLO_TRY(cancel.check());
  ++counters_.requests_other;
  const std::unique_lock lock(mutex_);
  objects_.erase(key);
  return {};
}

void MemoryStore::overwrite(const std::string& key, Bytes content) {
  const std::unique_lock lock(mutex_);
  objects_[key] = {std::make_shared<const Bytes>(std::move(content)), wall_now()};
}

}  // namespace reclo::store
