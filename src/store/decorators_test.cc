// LimitedStore and FaultStore over a store in memory.
#include <gtest/gtest.h>

#include "base/units.h"
#include "store/fault_store.h"
#include "store/limited_store.h"
#include "store/memory_store.h"

namespace reclo::store {
namespace {

const CancelToken kNever;

std::string outcomes(uint64_t seed) {
  FaultStore store(std::make_unique<MemoryStore>(),
                   {.seed = seed, .fail_before_percent = 20, .fail_after_percent = 20});
  std::string text;
  for (int i = 0; i < 200; ++i) {
    const std::string key = "k" + std::to_string(i);
    const bool reported = store.put_if_absent(key, as_bytes("x"), kNever).ok();
    const bool there = store.inner().stat(key, kNever).ok();
    text += reported ? 's' : there ? 'a' : 'f';  // success, ambiguous, failed
    EXPECT_TRUE(there || !reported);
  }
  return text;
}

TEST(FaultStoreTest, FailsBySeedAlsoAfterSuccess) {
  const std::string first = outcomes(7);
  EXPECT_EQ(first, outcomes(7));
  EXPECT_NE(first, outcomes(8));
  for (const char kind : {'s', 'a', 'f'})
    EXPECT_GT(std::count(first.begin(), first.end(), kind), 9);
}

TEST(FaultStoreTest, FailuresLookLikeANetworks) {
  FaultStore store(std::make_unique<MemoryStore>(), {.truncate_get_percent = 100});
  ASSERT_TRUE(store.put_if_absent("k", as_bytes("x"), kNever).ok());
  const Result<Bytes> got = store.get("k", 1, kNever);
  EXPECT_EQ(got.error().code(), Code::kUnavailable);
  EXPECT_TRUE(got.error().retryable());
  store.heal();
  EXPECT_TRUE(store.get("k", 1, kNever).ok());
  EXPECT_EQ(store.get("other", 1, kNever).error().code(), Code::kNotFound);
}

TEST(LimitedStoreTest, BytesPassAtTheirRate) {
  LimitedStore store(std::make_unique<MemoryStore>(), {.upload_bytes_per_second = 10 * kMiB,
                                                       .download_bytes_per_second = 10 * kMiB});
  const Bytes content(kMiB, 1);
  const Stopwatch uploading;
  for (int i = 0; i < 6; ++i)
    ASSERT_TRUE(store.put_if_absent("k" + std::to_string(i), content, kNever).ok());
  // 6 MiB at 10 MiB/s, of which the first 250 ms' worth and the last object pass at once.
  EXPECT_GT(uploading.seconds(), 0.2);
  EXPECT_LT(uploading.seconds(), 10);
  const Stopwatch downloading;
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(store.get("k" + std::to_string(i), kMiB, kNever).ok());
  EXPECT_GT(downloading.seconds(), 0.2);
}

TEST(LimitedStoreTest, RequestsPassAtTheirRateAndWaitingCanBeStopped) {
  LimitedStore store(std::make_unique<MemoryStore>(), {.requests_per_second = 20});
  const Stopwatch watch;
  for (int i = 0; i < 12; ++i) EXPECT_EQ(store.stat("no", kNever).error().code(), Code::kNotFound);
  EXPECT_GT(watch.seconds(), 0.25);
  store.set_limits({.requests_per_second = 1});
  ignore_error(store.stat("no", kNever), "spends what may pass at once");
  ignore_error(store.remove("no", kNever), "the same");
  EXPECT_EQ(
      store.stat("no", CancelToken().with_timeout(std::chrono::milliseconds(20))).error().code(),
      Code::kTimeout);
}

}  // namespace
}  // namespace reclo::store
