// Patience and pace: Retrier and Throttle.
#include "net/retry.h"

#include <gtest/gtest.h>

#include <thread>

#include "net/throttle.h"

namespace reclo::net {
namespace {

using std::chrono::milliseconds;

TEST(RetrierTest, GivesUpAfterItsPatienceAndSaysSo) {
  Retrier retrier({milliseconds(5), milliseconds(20), milliseconds(120)}, "https://s3.example");
  const Error failure = Error(Code::kTimeout, "the last failure").set_retryable(true);
  const Stopwatch watch;
  Status waited;
  do {
    waited = retrier.wait_after(failure, CancelToken());
  } while (waited.ok());
  EXPECT_GE(watch.seconds(), 0.12);
  EXPECT_LT(watch.seconds(), 10);
  EXPECT_EQ(waited.error().code(), Code::kTimeout);
  EXPECT_FALSE(waited.error().retryable());
  EXPECT_NE(waited.error().message().find("gave up on https://s3.example"), std::string::npos);
  EXPECT_NE(waited.error().message().find("the last failure"), std::string::npos);
  EXPECT_GT(retrier.failures(), 5u);
}

TEST(RetrierTest, StopsWaitingWhenTold) {
  Retrier retrier({milliseconds(60'000), milliseconds(60'000), milliseconds(600'000)}, "e");
  const Error failure(Code::kUnavailable, "x");
  EXPECT_EQ(retrier.wait_after(failure, CancelToken().with_timeout(milliseconds(0))).error().code(),
            Code::kTimeout);
}

TEST(RetryTest, WhichAnswersAreWorthAnotherTry) {
  for (const int status : {500, 502, 503, 504, 429}) EXPECT_TRUE(is_retryable_answer(status, ""));
  for (const int status : {200, 301, 400, 403, 404, 409, 412, 501})
    EXPECT_FALSE(is_retryable_answer(status, "")) << status;
  EXPECT_TRUE(is_retryable_answer(400, "RequestTimeout"));
  EXPECT_TRUE(is_retryable_answer(403, "SlowDown"));
  EXPECT_FALSE(is_retryable_answer(403, "AccessDenied"));
}

TEST(ThrottleTest, HoldsTheAverageAcrossThreads) {
  Throttle throttle(1'000'000, milliseconds(0));
  const Stopwatch watch;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i)
      threads.emplace_back([&] {
        for (int k = 0; k < 10; ++k) EXPECT_TRUE(throttle.take(10'000, CancelToken()).ok());
      });
  }
  EXPECT_GT(watch.seconds(), 0.38);  // 40 × 10 ms, of which the last does not wait for itself
  EXPECT_LT(watch.seconds(), 10);
}

TEST(ThrottleTest, NoRateIsNoLimitAndStoppedSharesAreGivenBack) {
  Throttle free(0);
  EXPECT_TRUE(free.take(uint64_t{1} << 60, CancelToken()).ok());
  Throttle slow(1000, milliseconds(0));
  ASSERT_TRUE(slow.take(100, CancelToken()).ok());
  const auto soon = CancelToken().with_timeout(milliseconds(1));
  EXPECT_EQ(slow.take(1'000'000, soon).error().code(), Code::kTimeout);
  const Stopwatch watch;
  EXPECT_TRUE(slow.take(1, CancelToken()).ok());
  EXPECT_LT(watch.seconds(), 100) << "the million was given back";
}

}  // namespace
}  // namespace reclo::net
