// The contract of store/object_store.h as tests that every store passes.
//
// A store joins by instantiating the suite with a factory that returns a fresh, empty store:
//   INSTANTIATE_TEST_SUITE_P(Folder, StoreConformanceTest, testing::Values(make_folder_fixture));
// Keys lie below a prefix of their own per test, so that a shared bucket works too.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>

#include "base/task_pool.h"
#include "base/units.h"
#include "os/random.h"
#include "store/object_store.h"

namespace reclo::store {

/// A store and whatever must live as long as it (a temporary folder).
struct StoreFixture {
  std::shared_ptr<void> keeper;
  std::unique_ptr<ObjectStore> store;
};
using MakeStore = std::function<StoreFixture()>;

class StoreConformanceTest : public testing::TestWithParam<MakeStore> {
 protected:
  static constexpr uint64_t kAny = 64 * kMiB;

  void SetUp() override {
    fixture_ = GetParam()();
    ASSERT_NE(fixture_.store, nullptr);
    uint8_t random[6];
    os::fill_random(random);
    root_ = "t-" + to_hex(random) + "/";
  }
  void TearDown() override {
    if (fixture_.store == nullptr) return;
    for (const std::string& name : keys("")) EXPECT_TRUE(store().remove(key(name), cancel_).ok());
  }

  ObjectStore& store() { return *fixture_.store; }
  std::string key(const std::string& name) const { return root_ + name; }
  Status put(const std::string& name, std::string_view content) {
    return store().put_if_absent(key(name), as_bytes(content), cancel_);
  }
  std::string get(const std::string& name) {
    const Result<Bytes> content = store().get(key(name), kAny, cancel_);
    return content.ok() ? std::string(as_text(*content)) : content.error().message();
  }
  std::vector<std::string> keys(const std::string& prefix) {
    std::vector<std::string> out;
    const Status listed = store().list(
        key(prefix),
        [&](const ObjectInfo& info) -> Status {
          out.push_back(info.key.substr(root_.size()));
          return {};
        },
        cancel_);
    EXPECT_TRUE(listed.ok()) << listed.error().message();
    return out;
  }
  static Bytes random_bytes(size_t size_bytes) {
    Bytes out(size_bytes);
    os::fill_random(out);
    return out;
  }

  CancelToken cancel_;
  StoreFixture fixture_;
  std::string root_;
};

TEST_P(StoreConformanceTest, WhatWasPutIsGot) {
  for (const size_t size_bytes : {size_t{0}, size_t{1}, size_t{4096}, size_t{5 * kMiB + 3}}) {
    const std::string name = "o" + std::to_string(size_bytes);
    const Bytes content = random_bytes(size_bytes);
    ASSERT_TRUE(store().put_if_absent(key(name), content, cancel_).ok());
    EXPECT_EQ(store().get(key(name), kAny, cancel_).value(), content);
    const ObjectInfo info = store().stat(key(name), cancel_).value();
    EXPECT_EQ(info.key, key(name));
    EXPECT_EQ(info.size_bytes, size_bytes);
    EXPECT_LT(std::chrono::abs(wall_now() - info.modified), std::chrono::minutes(10));
  }
}

TEST_P(StoreConformanceTest, NothingIsOverwritten) {
  ASSERT_TRUE(put("once", "first").ok());
  EXPECT_EQ(put("once", "second").error().code(), Code::kAlreadyExists);
  EXPECT_EQ(put("once", "first").error().code(), Code::kAlreadyExists)
      << "equal content is no excuse: it was somebody else's";
  EXPECT_EQ(get("once"), "first");
}

TEST_P(StoreConformanceTest, ExactlyOneOfManyWritersWins) {
  constexpr int kWriters = 16;
  TaskPool pool(kWriters);
  for (int round = 0; round < 3; ++round) {
    const std::string name = "race/" + std::to_string(round);
    std::atomic<int> winner = -1;
    std::atomic<int> winners = 0;
    std::atomic<int> losers = 0;
    TaskGroup group(pool, cancel_);
    for (int i = 0; i < kWriters; ++i) {
      group.spawn([&, i]() -> Status {
        const Status done = put(name, "writer " + std::to_string(i));
        if (done.ok()) {
          ++winners;
          winner = i;
        } else if (done.error().code() == Code::kAlreadyExists) {
          ++losers;
        } else {
          return done;
        }
        return {};
      });
    }
    const Status raced = group.wait();
    ASSERT_TRUE(raced.ok()) << raced.error().message();
    EXPECT_EQ(winners, 1);
    EXPECT_EQ(losers, kWriters - 1);
    EXPECT_EQ(get(name), "writer " + std::to_string(winner));
  }
}

TEST_P(StoreConformanceTest, WhatIsNotThereIsNotFound) {
  EXPECT_EQ(store().get(key("no"), kAny, cancel_).error().code(), Code::kNotFound);
  EXPECT_EQ(store().get_range(key("no"), {0, 1}, cancel_).error().code(), Code::kNotFound);
  EXPECT_EQ(store().stat(key("no"), cancel_).error().code(), Code::kNotFound);
  EXPECT_TRUE(store().remove(key("no"), cancel_).ok());
  EXPECT_TRUE(store().remove(key("no/such/folder"), cancel_).ok());
  EXPECT_TRUE(keys("no/").empty());
  EXPECT_TRUE(store().list_children(key("no/"), cancel_).value().empty());
}

TEST_P(StoreConformanceTest, RangesAreExact) {
  const Bytes content = random_bytes(100'000);
  ASSERT_TRUE(store().put_if_absent(key("r"), content, cancel_).ok());
  for (const ByteRange range :
       {ByteRange{0, 1}, ByteRange{0, 100'000}, ByteRange{99'999, 1}, ByteRange{4096, 65'536}}) {
    const Result<Bytes> got = store().get_range(key("r"), range, cancel_);
    ASSERT_TRUE(got.ok()) << got.error().message();
    EXPECT_EQ(*got, to_bytes(ByteSpan(content).subspan(range.offset_bytes, range.size_bytes)));
  }
  for (const ByteRange range : {ByteRange{99'999, 2}, ByteRange{100'000, 1}, ByteRange{1 << 20, 9}})
    EXPECT_EQ(store().get_range(key("r"), range, cancel_).error().code(), Code::kCorruption);
  EXPECT_EQ(store().get_range(key("r"), {0, 0}, cancel_).error().code(), Code::kInvalidArgument);
}

TEST_P(StoreConformanceTest, GetRefusesWhatIsLargerThanAllowed) {
  ASSERT_TRUE(put("big", std::string(1000, 'x')).ok());
  EXPECT_EQ(store().get(key("big"), 999, cancel_).error().code(), Code::kResourceExhausted);
  EXPECT_TRUE(store().get(key("big"), 1000, cancel_).ok());
}

TEST_P(StoreConformanceTest, ListsInKeyOrderAndByPrefix) {
  // '-' and '.' sort before '/', which naive folder walks get wrong.
  const std::vector<std::string> names = {"a-b", "a.b",  "a/b-c", "a/b/c",
                                          "a0",  "ab/1", "ab/2",  "b"};
  for (auto name = names.rbegin(); name != names.rend(); ++name)
    ASSERT_TRUE(put(*name, *name).ok()) << *name;
  EXPECT_EQ(keys(""), names);
  EXPECT_EQ(keys("a/"), (std::vector<std::string>{"a/b-c", "a/b/c"}));
  EXPECT_EQ(keys("ab"), (std::vector<std::string>{"ab/1", "ab/2"}));
  EXPECT_EQ(keys("a/b"), (std::vector<std::string>{"a/b-c", "a/b/c"}));
  EXPECT_EQ(store().list_children(root_, cancel_).value(),
            (std::vector<std::string>{"a-b", "a.b", "a/", "a0", "ab/", "b"}));
  EXPECT_EQ(store().list_children(key("a/"), cancel_).value(),
            (std::vector<std::string>{"b-c", "b/"}));
}

TEST_P(StoreConformanceTest, ListTellsSizesAndStopsWhenTold) {
  ASSERT_TRUE(put("l/1", "x").ok());
  ASSERT_TRUE(put("l/2", "xx").ok());
  ASSERT_TRUE(put("l/3", "xxx").ok());
  std::vector<uint64_t> sizes;
  const Status stopped = store().list(
      key("l/"),
      [&](const ObjectInfo& info) -> Status {
        sizes.push_back(info.size_bytes);
        if (sizes.size() == 2) return Error(Code::kConflict, "enough");
        return {};
      },
      cancel_);
  EXPECT_EQ(stopped.error().code(), Code::kConflict);
  EXPECT_EQ(sizes, (std::vector<uint64_t>{1, 2}));
}

TEST_P(StoreConformanceTest, RemovedIsGoneAndMayBePutAgain) {
  ASSERT_TRUE(put("x/y/z", "1").ok());
  ASSERT_TRUE(store().remove(key("x/y/z"), cancel_).ok());
  EXPECT_EQ(store().stat(key("x/y/z"), cancel_).error().code(), Code::kNotFound);
  EXPECT_TRUE(keys("x/").empty());
  ASSERT_TRUE(put("x/y/z", "2").ok());
  EXPECT_EQ(get("x/y/z"), "2");
}

TEST_P(StoreConformanceTest, RefusesBadKeys) {
  for (const char* bad : {"", "/a", "a/", "a//b", ".", "..", "a/../b", "a b", "a\\b", "ä",
                          "a/.tmp-1", "a?b", "a%2Fb"}) {
    EXPECT_EQ(store().put_if_absent(bad, {}, cancel_).error().code(), Code::kInvalidArgument)
        << bad;
    EXPECT_EQ(store().get(bad, 1, cancel_).error().code(), Code::kInvalidArgument) << bad;
    EXPECT_EQ(store().remove(bad, cancel_).error().code(), Code::kInvalidArgument) << bad;
  }
  EXPECT_EQ(store().put_if_absent(std::string(513, 'a'), {}, cancel_).error().code(),
            Code::kInvalidArgument);
  const auto no_visit = [](const ObjectInfo&) { return ok_status(); };
  EXPECT_EQ(store().list("../", no_visit, cancel_).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(store().list_children("a", cancel_).error().code(), Code::kInvalidArgument);
}

TEST_P(StoreConformanceTest, AFiredTokenStopsEverything) {
  std::stop_source stop;
  stop.request_stop();
  const CancelToken fired(stop.get_token());
  EXPECT_EQ(store().put_if_absent(key("c"), {}, fired).error().code(), Code::kCancelled);
  EXPECT_EQ(store().get(key("c"), 1, fired).error().code(), Code::kCancelled);
  EXPECT_EQ(store().stat(key("c"), fired).error().code(), Code::kCancelled);
  const CancelToken late = CancelToken().with_timeout(std::chrono::milliseconds(0));
  EXPECT_EQ(store().get_range(key("c"), {0, 1}, late).error().code(), Code::kTimeout);
  EXPECT_TRUE(keys("").empty());
}

TEST_P(StoreConformanceTest, WritersAndRemoversMayMeetInOneFolder) {
  constexpr int kThreads = 8;
  TaskPool pool(kThreads);
  TaskGroup group(pool, cancel_);
  for (int i = 0; i < kThreads; ++i) {
    group.spawn([&, i]() -> Status {
      for (int round = 0; round < 10; ++round) {
        const std::string name = "busy/folder/" + std::to_string(i);
        RECLO_TRY(put(name, name));
        RECLO_TRY(store().stat(key(name), cancel_));
        RECLO_TRY(store().remove(key(name), cancel_));
      }
      return {};
    });
  }
  const Status done = group.wait();
  EXPECT_TRUE(done.ok()) << done.error().message();
}

}  // namespace reclo::store
