#include "os/file.h"

#include <gtest/gtest.h>

#include <atomic>

#include "base/task_pool.h"

namespace reclo::os {
namespace {

TEST(FileTest, ExactlyOneOfManyCreatorsWins) {
  const TempDir folder = TempDir::create("reclo-test-").value();
  const std::string path = join_path(folder.path(), "once");
  std::atomic<int> winners = 0;
  TaskPool pool(8);
  TaskGroup group(pool, CancelToken());
  for (int i = 0; i < 32; ++i) {
    group.spawn([&, i]() -> Status {
      const Status made = create_file_durably(path, as_bytes(std::to_string(i)));
      if (made.ok()) ++winners;
      if (!made.ok() && made.error().code() != Code::kAlreadyExists) return made;
      return {};
    });
  }
  EXPECT_TRUE(group.wait().ok());
  EXPECT_EQ(winners, 1);
  EXPECT_EQ(list_directory(folder.path())->size(), 1u) << "temporary files were left behind";
}

TEST(FileTest, ShortReadIsAnError) {
  const TempDir folder = TempDir::create("reclo-test-").value();
  const std::string path = join_path(folder.path(), "short");
  ASSERT_TRUE(write_file_durably(path, as_bytes("abc")).ok());
  const Fd fd = open_file(path, OpenMode::kRead).value();
  Bytes four(4);
  EXPECT_EQ(read_at(fd, 0, four).error().code(), Code::kIo);
  EXPECT_EQ(read_file(path, 2).error().code(), Code::kResourceExhausted);
}

TEST(FileTest, LockIsExclusiveAndEndsWithItsOwner) {
  const TempDir folder = TempDir::create("reclo-test-").value();
  const std::string path = join_path(folder.path(), "lock");
  {
    const auto held = FileLock::acquire(path);
    ASSERT_TRUE(held.ok());
    EXPECT_EQ(FileLock::acquire(path).error().code(), Code::kConflict);
  }
  EXPECT_TRUE(FileLock::acquire(path).ok());
}

}  // namespace
}  // namespace reclo::os
