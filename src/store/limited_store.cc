#include "store/limited_store.h"

namespace reclo::store {

LimitedStore::LimitedStore(std::unique_ptr<ObjectStore> inner, const StoreLimits& limits)
    : inner_(std::move(inner)),
      upload_(limits.upload_bytes_per_second),
      download_(limits.download_bytes_per_second),
      requests_(limits.requests_per_second) {}

void LimitedStore::set_limits(const StoreLimits& limits) {
  upload_.set_rate(limits.upload_bytes_per_second);
  download_.set_rate(limits.download_bytes_per_second);
  requests_.set_rate(limits.requests_per_second);
}

Status LimitedStore::put_if_absent(const std::string& key, ByteSpan content,
                                   const CancelToken& cancel) {
  RECLO_TRY(requests_.take(1, cancel));
  RECLO_TRY(upload_.take(content.size(), cancel));
  return inner_->put_if_absent(key, content, cancel);
}

Result<Bytes> LimitedStore::get(const std::string& key, uint64_t size_bytes_max,
                                const CancelToken& cancel) {
  RECLO_TRY(requests_.take(1, cancel));
  // How much it will be is known afterwards only: wait for what passed before, then book this.
  RECLO_TRY(download_.take(0, cancel));
  Result<Bytes> content = inner_->get(key, size_bytes_max, cancel);
  if (content.ok()) download_.book(content->size());
  return content;
}

Result<Bytes> LimitedStore::get_range(const std::string& key, ByteRange range,
                                      const CancelToken& cancel) {
  RECLO_TRY(requests_.take(1, cancel));
  RECLO_TRY(download_.take(range.size_bytes, cancel));
  return inner_->get_range(key, range, cancel);
}

Result<ObjectInfo> LimitedStore::stat(const std::string& key, const CancelToken& cancel) {
  RECLO_TRY(requests_.take(1, cancel));
  return inner_->stat(key, cancel);
}

Status LimitedStore::list(const std::string& prefix,
                          const std::function<Status(const ObjectInfo&)>& visit,
                          const CancelToken& cancel) {
  RECLO_TRY(requests_.take(1, cancel));
  return inner_->list(prefix, visit, cancel);
}

Result<std::vector<std::string>> LimitedStore::list_children(const std::string& prefix,
                                                             const CancelToken& cancel) {
  RECLO_TRY(requests_.take(1, cancel));
  return inner_->list_children(prefix, cancel);
}

Status LimitedStore::remove(const std::string& key, const CancelToken& cancel) {
  RECLO_TRY(requests_.take(1, cancel));
  return inner_->remove(key, cancel);
}

}  // namespace reclo::store
