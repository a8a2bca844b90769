// Hedged reads: when a ranged GET takes far longer than such GETs usually do, a second one is sent
// and the first answer wins. Cuts the long tail of object stores, at the price of a few requests.
//
// The delay is three times the 95th percentile of recent reads of about the same length, at least
// kHedgeDelayMin. At most one read in twenty is hedged, so that an overloaded store is not loaded
// further. The first request runs in the caller's thread: an unhedged read costs nothing.
// Thread rule: as ObjectStore.
#pragma once

#include <array>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>

#include "base/task_pool.h"
#include "store/object_store.h"

namespace reclo::image {

inline constexpr std::chrono::milliseconds kHedgeDelayMin{100};

struct HedgeCounters {
  uint64_t reads = 0;
  uint64_t hedged = 0;
  uint64_t won = 0;  // by the second request
};

class HedgedStore final : public store::ObjectStore {
 public:
  /// `inner` must outlive this.
  explicit HedgedStore(store::ObjectStore& inner);
  ~HedgedStore() override;

  Status put_if_absent(const std::string& key, ByteSpan content,
                       const CancelToken& cancel) override {
    return inner_.put_if_absent(key, content, cancel);
  }
  Result<Bytes> get(const std::string& key, uint64_t size_bytes_max,
                    const CancelToken& cancel) override {
    return inner_.get(key, size_bytes_max, cancel);
  }
  Result<Bytes> get_range(const std::string& key, store::ByteRange range,
                          const CancelToken& cancel) override;
  Result<store::ObjectInfo> stat(const std::string& key, const CancelToken& cancel) override {
    return inner_.stat(key, cancel);
  }
  Status list(const std::string& prefix,
              const std::function<Status(const store::ObjectInfo&)>& visit,
              const CancelToken& cancel) override {
    return inner_.list(prefix, visit, cancel);
  }
  Result<std::vector<std::string>> list_children(const std::string& prefix,
                                                 const CancelToken& cancel) override {
    return inner_.list_children(prefix, cancel);
  }
  Status remove(const std::string& key, const CancelToken& cancel) override {
    return inner_.remove(key, cancel);
  }
  store::StoreCounters counters() const override { return inner_.counters(); }
  std::string description() const override { return inner_.description(); }

  HedgeCounters hedge_counters() const;

 private:
  struct Race;  // one read and its second request
  using Time = std::chrono::steady_clock::time_point;
  static constexpr size_t kSamples = 64;
  struct Latencies {
    std::array<uint32_t, kSamples> ms{};
    size_t count = 0;  // ever
  };

  std::optional<std::chrono::milliseconds> hedge_delay(uint64_t size_bytes);
  void note_latency(uint64_t size_bytes, std::chrono::nanoseconds elapsed);
  void watch();
  void run_second(const std::shared_ptr<Race>& race);
  Result<Bytes> finish(const std::shared_ptr<Race>& race, Result<Bytes> first,
                       const CancelToken& cancel);

  store::ObjectStore& inner_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::array<Latencies, 4> latencies_;  // by length
  std::multimap<Time, std::weak_ptr<Race>> due_;
  HedgeCounters counters_;
  size_t running_ = 0;  // second requests
  bool stopping_ = false;
  // Last: their threads use the above.
  TaskPool second_pool_;
  TaskPool watch_pool_;
};

}  // namespace reclo::image
