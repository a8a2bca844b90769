#include "net/adaptive_rate.h"

#include <gtest/gtest.h>

namespace reclo::net {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(AdaptiveRateTest, HalvesOnceASecondHoweverManyFailTogether) {
  AdaptiveRate rate(1000);
  const auto start = AdaptiveRate::Clock::now();
  for (int i = 0; i < 50; ++i) rate.throttled(start + milliseconds(i));
  EXPECT_EQ(rate.per_second(), 500u);
  rate.throttled(start + seconds(2));
  EXPECT_EQ(rate.per_second(), 250u);
}

TEST(AdaptiveRateTest, ComesBackStepByStepAndStopsAtTheQuota) {
  AdaptiveRate rate(1000);
  auto now = AdaptiveRate::Clock::now();
  rate.throttled(now);
  for (int i = 0; i < 9; ++i) rate.succeeded(now += seconds(1));
  EXPECT_EQ(rate.per_second(), 950u);
  for (int i = 0; i < 9; ++i) rate.succeeded(now += seconds(1));
  EXPECT_EQ(rate.per_second(), 1000u);
}

TEST(AdaptiveRateTest, NeverStandsStill) {
  AdaptiveRate rate(2);
  auto now = AdaptiveRate::Clock::now();
  for (int i = 0; i < 10; ++i) rate.throttled(now += seconds(2));
  EXPECT_EQ(rate.per_second(), 1u);
  EXPECT_TRUE(rate.take(CancelToken()).ok());
}

}  // namespace
}  // namespace reclo::net
