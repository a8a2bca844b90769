// Keeps another store within limits of bytes and requests per second. A transfer of n bytes passes
// as a whole and makes the next ones wait, so the average holds.
// Thread rule: as ObjectStore.
#pragma once

#include <memory>

#include "net/throttle.h"
#include "store/object_store.h"

namespace reclo::store {

struct StoreLimits {
  uint64_t upload_bytes_per_second = 0;  // 0: no limit
  uint64_t download_bytes_per_second = 0;
  uint32_t requests_per_second = 0;
};

class LimitedStore final : public ObjectStore {
 public:
  LimitedStore(std::unique_ptr<ObjectStore> inner, const StoreLimits& limits);

  /// For timetables; holds for calls that begin afterwards.
  void set_limits(const StoreLimits& limits);

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
  StoreCounters counters() const override { return inner_->counters(); }
  std::string description() const override { return inner_->description(); }

 private:
  const std::unique_ptr<ObjectStore> inner_;
  net::Throttle upload_;
  net::Throttle download_;
  net::Throttle requests_;
};

}  // namespace reclo::store
