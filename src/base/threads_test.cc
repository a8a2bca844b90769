// Channel, TaskGroup and CancelToken under real threads.
#include <gtest/gtest.h>

#include <atomic>

#include "base/channel.h"
#include "base/task_pool.h"
#include "base/time.h"

namespace reclo {
namespace {

TEST(ChannelTest, DeliversAllAndEnds) {
  TaskPool pool(2);
  TaskGroup group(pool, CancelToken());
  Channel<int> channel(3);
  int sum = 0;
  group.spawn([&]() -> Status {
    for (int i = 1; i <= 1000; ++i) channel.push(i, group.token());
    channel.close();
    return {};
  });
  group.spawn([&]() -> Status {
    while (auto item = channel.pop(group.token())) sum += *item;
    return {};
  });
  EXPECT_TRUE(group.wait().ok());
  EXPECT_EQ(sum, 500500);
}

TEST(TaskGroupTest, TheCauseIsToldAndNotItsEffect) {
  for (int round = 0; round < 500; ++round) {
    TaskPool pool(4);
    TaskGroup group(pool, CancelToken());
    for (int i = 0; i < 3; ++i)
      group.spawn([&]() -> Status {
        while (group.token().check().ok()) continue;
        return group.token().check();
      });
    group.spawn([]() -> Status { return Error(Code::kIo, "the cause"); });
    ASSERT_EQ(group.wait().error().message(), "the cause") << "round " << round;
  }
}

TEST(TaskGroupTest, FirstErrorStopsTheOthers) {
  TaskPool pool(2);
  TaskGroup group(pool, CancelToken());
  Channel<int> never(1);
  group.spawn([&]() -> Status {
    never.pop(group.token());  // would block for ever
    return {};
  });
  group.spawn([]() -> Status { return Error(Code::kIo, "disk died"); });
  const Status status = group.wait();
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code(), Code::kIo);
}

TEST(CancelTest, SleepEndsWhenAsked) {
  std::stop_source stop;
  const CancelToken token(stop.get_token());
  TaskPool pool(1);
  TaskGroup group(pool, CancelToken());
  group.spawn([&]() -> Status {
    stop.request_stop();
    return {};
  });
  const Status status = token.sleep_for(std::chrono::hours(1));
  EXPECT_EQ(status.error().code(), Code::kCancelled);
  EXPECT_EQ(CancelToken()
                .with_timeout(std::chrono::milliseconds(1))
                .sleep_for(std::chrono::hours(1))
                .error()
                .code(),
            Code::kTimeout);
  EXPECT_TRUE(group.wait().ok());
}

}  // namespace
}  // namespace reclo
