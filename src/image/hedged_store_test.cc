#include "image/hedged_store.h"

#include <gtest/gtest.h>

#include "base/time.h"
#include "store/memory_store.h"

namespace reclo::image {
namespace {

// Answers at once, except that chosen calls hang until they are cancelled.
class HangingStore final : public store::ObjectStore {
 public:
  Status put_if_absent(const std::string& key, ByteSpan content,
                       const CancelToken& cancel) override {
    return inner_.put_if_absent(key, content, cancel);
  }
  Result<Bytes> get(const std::string& key, uint64_t size_bytes_max,
                    const CancelToken& cancel) override {
    return inner_.get(key, size_bytes_max, cancel);
  }
  Result<Bytes> get_range(const std::string& key, store::ByteRange range,
                          const CancelToken& cancel) override {
    if (hang_.exchange(false)) {
      RECLO_TRY(cancel.sleep_for(std::chrono::seconds(60)));
    }
    return inner_.get_range(key, range, cancel);
  }
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

  std::atomic<bool> hang_ = false;

 private:
  store::MemoryStore inner_;
};

class HedgedStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(inner_.put_if_absent("a", Bytes(1000, 7), {}).ok());
    for (int i = 0; i < 30; ++i) ASSERT_TRUE(store_.get_range("a", {0, 100}, {}).ok());
  }
  HangingStore inner_;
  HedgedStore store_{inner_};
};

TEST_F(HedgedStoreTest, FastReadsAreNotHedged) {
  EXPECT_EQ(store_.hedge_counters().hedged, 0u);
  EXPECT_EQ(store_.get_range("b", {0, 100}, {}).error().code(), Code::kNotFound);
}

TEST_F(HedgedStoreTest, TheSecondRequestSavesAHangingOne) {
  inner_.hang_ = true;
  const Stopwatch watch;
  const auto got = store_.get_range("a", {100, 200}, {});
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(got->size(), 200u);
  EXPECT_LT(watch.seconds(), 30);
  EXPECT_EQ(store_.hedge_counters().hedged, 1u);
  EXPECT_EQ(store_.hedge_counters().won, 1u);
}

TEST_F(HedgedStoreTest, HedgesAreRationed) {
  uint64_t hung = 0;
  for (int i = 0; i < 12; ++i) {
    inner_.hang_ = true;
    const auto got =
        store_.get_range("a", {0, 10}, CancelToken().with_timeout(std::chrono::milliseconds(400)));
    if (!got.ok()) ++hung;
  }
  EXPECT_GT(hung, 0u);
  EXPECT_LE(store_.hedge_counters().hedged, 6u);
}

TEST_F(HedgedStoreTest, CancelStopsBoth) {
  inner_.hang_ = true;
  const auto got =
      store_.get_range("a", {0, 10}, CancelToken().with_timeout(std::chrono::milliseconds(50)));
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().code(), Code::kTimeout);
}

}  // namespace
}  // namespace reclo::image
