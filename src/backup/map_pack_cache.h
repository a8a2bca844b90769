// A view of the store that keeps whole map packs in the state folder, so that incrementals read
// their parent's map locally: one GET per map pack instead of one per node, and none for packs that
// this server wrote itself. Packs are sealed and immutable, so a cached copy is as good as the
// store's; each of its blocks carries a checksum, and a damaged copy is fetched again.
// File: magic 8 | pack size u64 | 8 bytes of checksum a block | the pack. Thread rule: as
// ObjectStore.
#pragma once

#include <mutex>
#include <string>

#include "store/object_store.h"

namespace reclo::backup {

class MapPackCache final : public store::ObjectStore {
 public:
  /// `base` must outlive this. `folder` is made when missing. Past `size_bytes_max` the oldest go.
  MapPackCache(store::ObjectStore& base, std::string folder, uint64_t size_bytes_max);

  /// Keeps a pack that was just uploaded. Failing to keep it is no error.
  void keep(const std::string& key, ByteSpan pack);

  Status put_if_absent(const std::string& key, ByteSpan content,
                       const CancelToken& cancel) override {
    return base_.put_if_absent(key, content, cancel);
  }
  Result<Bytes> get(const std::string& key, uint64_t size_bytes_max,
                    const CancelToken& cancel) override {
    return base_.get(key, size_bytes_max, cancel);
  }
  Result<Bytes> get_range(const std::string& key, store::ByteRange range,
                          const CancelToken& cancel) override;
  Result<store::ObjectInfo> stat(const std::string& key, const CancelToken& cancel) override {
    return base_.stat(key, cancel);
  }
  Status list(const std::string& prefix,
              const std::function<Status(const store::ObjectInfo&)>& visit,
              const CancelToken& cancel) override {
    return base_.list(prefix, visit, cancel);
  }
  Result<std::vector<std::string>> list_children(const std::string& prefix,
                                                 const CancelToken& cancel) override {
    return base_.list_children(prefix, cancel);
  }
  Status remove(const std::string& key, const CancelToken& cancel) override {
    return base_.remove(key, cancel);
  }
  store::StoreCounters counters() const override { return base_.counters(); }
  std::string description() const override { return base_.description(); }

 private:
  std::string path_of(const std::string& key) const;
  Result<Bytes> read_cached(const std::string& key, store::ByteRange range) const;
  void evict();
  store::ObjectStore& base_;
  const std::string folder_;
  const uint64_t size_bytes_max_;
  std::mutex fetch_mutex_;
};

}  // namespace reclo::backup
