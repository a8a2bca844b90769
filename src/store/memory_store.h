// An object store in this process's memory: for tests, and gone with the object.
// Thread rule: as ObjectStore.
#pragma once

#include <map>
#include <memory>
#include <shared_mutex>

#include "store/object_store.h"

namespace reclo::store {

class MemoryStore final : public ObjectStore {
 public:
  Status put_if_absent(const std::string& key, ByteSpan content,
                       const CancelToken& cancel) override;
  Result<Bytes> get(const std::string& key, uint64_t size_bytes_max,
                    const CancelToken& cancel) override;
  Result<Bytes> get_range(const std::string& key, ByteRange range,
                          const CancelToken& cancel) override;
  Result<ObjectInfo> stat(const std::string& key, const CancelToken& cancel) override;
  Status list(const std::string& prefix, const std::function<Status(const ObjectInfo&)>& visit,
              const CancelToken& cancel) override;
  Result<std::vector<std::string>> list_children(const std::string& prefix,
                                                 const CancelToken& cancel) override;
  Status remove(const std::string& key, const CancelToken& cancel) override;
  StoreCounters counters() const override { return counters_.snapshot(); }
  std::string description() const override { return "memory"; }

  /// Replaces an object's bytes behind every reader's back, or adds it: damage for tests.
  void overwrite(const std::string& key, Bytes content);

 private:
  struct Object {
    std::shared_ptr<const Bytes> content;
    WallTime modified;
  };
  Result<Object> find(const std::string& key) const;

  mutable std::shared_mutex mutex_;
  std::map<std::string, Object> objects_;
  AtomicCounters counters_;
};

}  // namespace reclo::store
