#include "image/hedged_store.h"

#include <algorithm>

#include "base/time.h"
#include "base/units.h"

namespace reclo::image {
namespace {

constexpr size_t kSecondThreads = 4;
constexpr size_t kSamplesMin = 16;
constexpr uint64_t kReadsPerHedge = 20;
constexpr uint64_t kHedgesAtStart = 4;

size_t length_class(uint64_t size_bytes) {
  if (size_bytes <= 64 * kKiB) return 0;
  if (size_bytes <= 512 * kKiB) return 1;
  return size_bytes <= 2 * kMiB ? 2 : 3;
}

}  // namespace

struct HedgedStore::Race {
  std::string key;
  store::ByteRange range;
  std::stop_source first_stop;
  std::stop_source second_stop;
  std::optional<CancelToken::Time> deadline;

  std::mutex mutex;  // taken after the store's when both are held
  std::condition_variable_any changed;
  bool first_done = false;
  bool second_started = false;
  std::optional<Result<Bytes>> second;
};

HedgedStore::HedgedStore(store::ObjectStore& inner)
    : inner_(inner), second_pool_(kSecondThreads), watch_pool_(1) {
  watch_pool_.run([this] { watch(); });
}

HedgedStore::~HedgedStore() {
  const std::lock_guard lock(mutex_);
  stopping_ = true;
  changed_.notify_all();
}

HedgeCounters HedgedStore::hedge_counters() const {
  const std::lock_guard lock(mutex_);
  return counters_;
}

std::optional<std::chrono::milliseconds> HedgedStore::hedge_delay(uint64_t size_bytes) {
  const std::lock_guard lock(mutex_);
  ++counters_.reads;
  const Latencies& recent = latencies_[length_class(size_bytes)];
  const size_t count = std::min(recent.count, kSamples);
  if (count < kSamplesMin) return std::nullopt;
  auto sorted = recent.ms;
  const auto p95 = sorted.begin() + static_cast<ptrdiff_t>(count * 95 / 100);
  std::nth_element(sorted.begin(), p95, sorted.begin() + static_cast<ptrdiff_t>(count));
  return std::max(kHedgeDelayMin, std::chrono::milliseconds(*p95) * 3);
}

void HedgedStore::note_latency(uint64_t size_bytes, std::chrono::nanoseconds elapsed) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(elapsed).count();
  const std::lock_guard lock(mutex_);
  Latencies& recent = latencies_[length_class(size_bytes)];
  recent.ms[recent.count++ % kSamples] = static_cast<uint32_t>(std::min<int64_t>(ms, 1'000'000));
}

Result<Bytes> HedgedStore::get_range(const std::string& key, store::ByteRange range,
                                     const CancelToken& cancel) {
  const Stopwatch watch;
  const auto delay = hedge_delay(range.size_bytes);
  if (!delay) {
    auto result = inner_.get_range(key, range, cancel);
    if (result.ok()) note_latency(range.size_bytes, watch.elapsed());
    return result;
  }
  const auto race = std::make_shared<Race>();
  race->key = key;
  race->range = range;
  race->deadline = cancel.deadline();
  const std::stop_callback forward(cancel.stop_token(), [&] {
    race->first_stop.request_stop();
    race->second_stop.request_stop();
  });
  {
    const std::lock_guard lock(mutex_);
    const Time when = std::chrono::steady_clock::now() + *delay;
    const bool is_next = due_.empty() || when < due_.begin()->first;
    due_.emplace(when, race);
    if (is_next) changed_.notify_all();
  }
  CancelToken token(race->first_stop.get_token());
  if (race->deadline)
    token = token.with_timeout(std::chrono::duration_cast<std::chrono::milliseconds>(
        *race->deadline - std::chrono::steady_clock::now()));
  auto result = finish(race, inner_.get_range(key, range, token), cancel);
  // Also what a hedge won: else a store that became slower would be hedged for ever.
  if (result.ok()) note_latency(range.size_bytes, watch.elapsed());
  return result;
}

Result<Bytes> HedgedStore::finish(const std::shared_ptr<Race>& race, Result<Bytes> first,
                                  const CancelToken& cancel) {
  std::optional<Result<Bytes>> second;
  {
    std::unique_lock lock(race->mutex);
    race->first_done = true;
    // The first one failed, or was stopped because the second one won.
    if (!first.ok() && race->second_started) {
      race->changed.wait(lock, cancel.stop_token(), [&] { return race->second.has_value(); });
      second = std::move(race->second);
    }
  }
  race->second_stop.request_stop();
  if (!second || !second->ok()) return first;
  const std::lock_guard lock(mutex_);
  ++counters_.won;
  return std::move(*second);
}

void HedgedStore::watch() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (due_.empty()) {
      changed_.wait(lock);
      continue;
    }
    const Time next = due_.begin()->first;
    if (std::chrono::steady_clock::now() < next) {
      changed_.wait_until(lock, next);
      continue;
    }
    const auto race = due_.begin()->second.lock();
    due_.erase(due_.begin());
    if (!race || running_ >= kSecondThreads ||
        counters_.hedged >= kHedgesAtStart + counters_.reads / kReadsPerHedge)
      continue;
    {
      const std::lock_guard race_lock(race->mutex);
      if (race->first_done) continue;
      race->second_started = true;
    }
    ++counters_.hedged;
    ++running_;
    second_pool_.run([this, race] { run_second(race); });
  }
}

void HedgedStore::run_second(const std::shared_ptr<Race>& race) {
  CancelToken token(race->second_stop.get_token());
  if (race->deadline)
    token = token.with_timeout(std::chrono::duration_cast<std::chrono::milliseconds>(
        *race->deadline - std::chrono::steady_clock::now()));
  auto result = inner_.get_range(race->key, race->range, token);
  const bool won = result.ok();
  {
    const std::lock_guard lock(race->mutex);
    race->second = std::move(result);
    race->changed.notify_all();
  }
  if (won) race->first_stop.request_stop();
  const std::lock_guard lock(mutex_);
  --running_;
}

}  // namespace reclo::image
