#include "crypto/fingerprint.h"

#include <gtest/gtest.h>

#include "base/limits.h"

namespace reclo::crypto {
namespace {

SecretKey key_of(uint8_t fill) { return SecretKey::from_bytes(Bytes(32, fill)); }

TEST(PageFingerprinterTest, DependsOnEveryByteAndTheKey) {
  PageFingerprinter ours(key_of(1));
  PageFingerprinter same(key_of(1));
  PageFingerprinter other(key_of(2));
  Bytes page(kPageSizeBytes, 7);
  const PageFingerprint before = ours.fingerprint(page);
  EXPECT_EQ(same.fingerprint(page), before);
  EXPECT_NE(other.fingerprint(page), before);
  EXPECT_FALSE(before.is_zero());
  for (size_t i = 0; i < page.size(); i += 97) {
    page[i] ^= 0x40;
    EXPECT_NE(ours.fingerprint(page), before) << i;
    page[i] ^= 0x40;
  }
  EXPECT_EQ(ours.fingerprint(page), before) << "an earlier page must leave no trace";
}

}  // namespace
}  // namespace reclo::crypto
