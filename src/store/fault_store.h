// Makes another store fail, by a seed: for tests of everything that stands on stores.
//
// Which call fails how depends only on the seed and the calls' order. "Fails after success" is the
// nasty one: the object is there, and the caller does not know. Failures are retryable, as those of
// a network are; FaultStore itself retries nothing.
// Thread rule: as ObjectStore.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <random>

#include "store/object_store.h"

namespace reclo::store {

/// Chances in percent, each rolled per call.
struct FaultPlan {
  uint64_t seed = 1;
  unsigned fail_before_percent = 0;   // the inner store never hears of it
  unsigned fail_after_percent = 0;    // put and remove: done, but reported as failed
  unsigned truncate_get_percent = 0;  // fewer bytes arrived: reported, as S3Store would
  unsigned delay_percent = 0;
  std::chrono::milliseconds delay{5};
};

class FaultStore final : public ObjectStore {
 public:
  FaultStore(std::unique_ptr<ObjectStore> inner, const FaultPlan& plan);

  /// No more failures from now on.
  void heal();
  ObjectStore& inner() { return *inner_; }

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
  bool roll(unsigned percent);
  Status before(const CancelToken& cancel);
  Status after_success();
  Result<Bytes> after_get(Result<Bytes> content);

  const std::unique_ptr<ObjectStore> inner_;
  std::mutex mutex_;
  FaultPlan plan_;
  std::mt19937_64 random_;
};

}  // namespace reclo::store
