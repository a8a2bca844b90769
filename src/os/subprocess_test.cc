#include "os/subprocess.h"

#include <gtest/gtest.h>
#include <signal.h>

#include "base/time.h"

namespace reclo::os {
namespace {

TEST(SubprocessTest, CollectsOutputAndExitCode) {
  const Output output =
      run_command({"sh", "-c", "echo out; echo err >&2; exit 3"}, CancelToken()).value();
  EXPECT_EQ(output.out, "out\n");
  EXPECT_EQ(output.err, "err\n");
  EXPECT_EQ(output.exit_code, 3);
  EXPECT_NE(run_checked({"sh", "-c", "echo why >&2; exit 1"}, CancelToken())
                .error()
                .message()
                .find("why"),
            std::string::npos);
}

TEST(SubprocessTest, MissingProgramIsNamed) {
  const auto result = run_command({"no-such-program-here"}, CancelToken());
  EXPECT_EQ(result.error().code(), Code::kNotFound);
}

TEST(SubprocessTest, CancellingKills) {
  const Stopwatch watch;
  const auto result =
      run_command({"sleep", "60"}, CancelToken().with_timeout(std::chrono::milliseconds(200)));
  EXPECT_EQ(result.error().code(), Code::kTimeout);
  EXPECT_LT(watch.seconds(), 10);
}

TEST(SubprocessTest, KeptChildIsPolledAndTerminated) {
  SpawnOptions options;
  options.argv = {"sleep", "60"};
  Subprocess child = Subprocess::start(options).value();
  EXPECT_TRUE(process_alive(child.pid(), "sleep"));
  EXPECT_FALSE(child.poll().has_value());
  child.terminate(std::chrono::seconds(5));
  EXPECT_EQ(child.poll().value(), 128 + SIGTERM);
}

}  // namespace
}  // namespace reclo::os
