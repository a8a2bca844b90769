#include "base/result.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace reclo {
namespace {

Result<int> half(int n) {
  if (n % 2 != 0) return Error(Code::kInvalidArgument, "odd");
  return n / 2;
}

Result<int> quarter(int n) {
  RECLO_ASSIGN_OR_RETURN_WITH(const int h, half(n), "first half");
  return half(h);
}

TEST(ResultTest, CarriesValueOrError) {
  EXPECT_EQ(*quarter(8), 2);
  const Result<int> failed = quarter(3);
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().code(), Code::kInvalidArgument);
  EXPECT_EQ(failed.error().message(), "first half: odd");
}

TEST(ResultTest, ErrnoMapsToCodes) {
  EXPECT_EQ(Error::from_errno(ENOSPC, "write").code(), Code::kNoSpace);
  EXPECT_EQ(Error::from_errno(ENOENT, "open").code(), Code::kNotFound);
  EXPECT_EQ(Error::from_errno(EIO, "read").code(), Code::kIo);
  EXPECT_NE(Error::from_errno(EIO, "read /dev/sda").message().find("read /dev/sda"),
            std::string::npos);
}

#ifndef NDEBUG
TEST(ResultDeathTest, UnreadResultAborts) {
  EXPECT_DEATH({ Result<int> unread = half(2); }, "without being read");
}
#endif

}  // namespace
}  // namespace reclo
