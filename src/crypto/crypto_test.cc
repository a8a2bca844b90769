// Known answers for every primitive that the format names, and the properties callers lean on.
#include <gtest/gtest.h>

#include <atomic>

#include "base/encoding.h"
#include "base/limits.h"
#include "base/task_pool.h"
#include "crypto/aead.h"
#include "crypto/hash.h"
#include "crypto/passphrase.h"
#include "crypto/sealing.h"

namespace reclo::crypto {
namespace {

SecretKey key_of(uint8_t fill) { return SecretKey::from_bytes(Bytes(32, fill)); }

TEST(HashTest, HmacMatchesRfc4231) {
  EXPECT_EQ(to_hex(hmac_sha256(Bytes(20, 0x0b), as_bytes("Hi There"))),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
}

TEST(HashTest, KeyedHashIsHmac) {
  const SecretKey key = key_of(7);
  const KeyedHash hash(key);
  for (size_t size : {0, 1, 63, 64, 65, 4096}) {
    const Bytes message(size, 0x5a);
    EXPECT_EQ(hash.digest(message), hmac_sha256(key.bytes(), message)) << size;
  }
}

TEST(HashTest, DerivedKeysFollowRfc5869) {
  // Test case 3 of the RFC has an empty salt and info, and 22 bytes of key: its first 32 bytes.
  // Ours has 32 bytes of key, so the vector is computed by the definition instead.
  const SecretKey key = key_of(1);
  const Sha256Digest prk = hmac_sha256(Bytes(32, 0), key.bytes());
  const Bytes info = to_bytes("label\x01");
  EXPECT_EQ(to_hex(derive_key(key, "label", {}).bytes()), to_hex(hmac_sha256(prk, info)));
  EXPECT_NE(to_hex(derive_key(key, "a", {}).bytes()), to_hex(derive_key(key, "b", {}).bytes()));
}

TEST(HashTest, ChunkIdDependsOnEveryPage) {
  const ContentHasher hasher(key_of(3));
  Bytes data(16 * kPageSizeBytes, 1);
  std::vector<PageTag> tags(16);
  hasher.page_tags(data, tags);
  const ChunkId before = hasher.chunk_id(tags);
  data[15 * kPageSizeBytes + 5] ^= 1;
  hasher.page_tags(data, tags);
  EXPECT_NE(hasher.chunk_id(tags), before);
  EXPECT_NE(hasher.chunk_id(std::span(tags).first(15)), before);
}

TEST(PageTagTest, DependsOnEveryByteAndTheKeyAndNothingElse) {
  const ContentHasher ours(key_of(1));
  const ContentHasher other(key_of(2));
  const auto tag = [](const ContentHasher& hasher, ByteSpan page) {
    PageTag out;
    hasher.page_tags(page, {&out, 1});
    return out;
  };
  Bytes page(kPageSizeBytes, 7);
  const PageTag before = tag(ours, page);
  EXPECT_EQ(tag(ContentHasher(key_of(1)), page), before);
  EXPECT_NE(tag(other, page), before);
  EXPECT_FALSE(before.is_zero());
  for (size_t i = 0; i < page.size(); i += 97) {
    page[i] ^= 0x40;
    EXPECT_NE(tag(ours, page), before) << i;
    page[i] ^= 0x40;
  }
  EXPECT_EQ(tag(ours, page), before) << "an earlier page must leave no trace";
}

TEST(PageTagTest, ManyThreadsShareOneHasher) {
  const ContentHasher hasher(key_of(4));
  Bytes data(64 * kPageSizeBytes);
  for (size_t i = 0; i < data.size(); ++i)
    data[i] = static_cast<uint8_t>(i * 31 + i / kPageSizeBytes);
  std::vector<PageTag> expected(64);
  hasher.page_tags(data, expected);
  std::atomic<int> wrong = 0;
  {
    TaskPool pool(4);
    for (int t = 0; t < 4; ++t)
      pool.run([&] {
        std::vector<PageTag> tags(64);
        for (int round = 0; round < 20; ++round) {
          hasher.page_tags(data, tags);
          if (tags != expected) ++wrong;
        }
      });
  }
  EXPECT_EQ(wrong, 0);
}

TEST(AeadTest, MatchesNistVectorAndRefusesChanges) {
  // GCM test case 13/14 of the GCM specification: zero key, zero nonce.
  Aead aead(key_of(0));
  Bytes out(16 + kAeadTagSize);
  aead.seal(0, {}, Bytes(16, 0), out);
  EXPECT_EQ(to_hex(out), "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919");
  Bytes plain(16);
  EXPECT_TRUE(aead.open(0, {}, out, plain).ok());
  EXPECT_EQ(plain, Bytes(16, 0));
  EXPECT_EQ(aead.open(1, {}, out, plain).error().code(), Code::kCorruption);
  EXPECT_EQ(aead.open(0, as_bytes("x"), out, plain).error().code(), Code::kCorruption);
  for (size_t i = 0; i < out.size(); ++i) {
    Bytes changed = out;
    changed[i] ^= 0x10;
    EXPECT_FALSE(aead.open(0, {}, changed, plain).ok()) << i;
  }
  EXPECT_FALSE(aead.open(0, {}, ByteSpan(out).first(10), MutableByteSpan()).ok());
}

TEST(SealingTest, OnlyTheRecipientOpens) {
  const BoxKeyPair keys = make_box_key_pair();
  const BoxKeyPair others = make_box_key_pair();
  const Bytes sealed = seal_to(keys.public_key, key_of(9).bytes());
  EXPECT_EQ(to_hex(open_sealed_key(keys, sealed)->bytes()), to_hex(key_of(9).bytes()));
  EXPECT_EQ(open_sealed_key(others, sealed).error().code(), Code::kCorruption);
  EXPECT_FALSE(open_sealed_key(keys, ByteSpan(sealed).first(40)).ok());
}

TEST(SealingTest, SignaturesBindTheMessage) {
  const SigningKeyPair keys = make_signing_key_pair();
  const Signature signature = sign(keys, as_bytes("point 1"));
  EXPECT_TRUE(verify_signature(keys.public_key, as_bytes("point 1"), signature));
  EXPECT_FALSE(verify_signature(keys.public_key, as_bytes("point 2"), signature));
  EXPECT_FALSE(
      verify_signature(keys.public_key, as_bytes("point 1"), ByteSpan(signature).first(63)));
}

TEST(PassphraseTest, SamePassphraseSameKeyOtherSaltOtherKey) {
  Argon2Parameters cheap;
  cheap.memory_bytes = 8 * kMiB;
  cheap.passes = 1;
  const auto hex = [&](std::string_view text) {
    return to_hex(key_from_passphrase(text, cheap)->bytes());
  };
  const std::string first = hex("correct horse");
  EXPECT_EQ(hex("correct horse"), first);
  EXPECT_NE(hex("correct horsf"), first);
  cheap.salt[0] = 1;
  EXPECT_NE(hex("correct horse"), first);
  cheap.memory_bytes = uint64_t{1} << 50;
  EXPECT_EQ(key_from_passphrase("x", cheap).error().code(), Code::kInvalidArgument);
}

TEST(RecoveryCodeTest, SurvivesHandwritingAndCatchesTypos) {
  const std::string code = make_recovery_code();
  ASSERT_EQ(code.size(), 44u);
  EXPECT_TRUE(looks_like_recovery_code(code));
  const std::string key = to_hex(key_from_recovery_code(code)->bytes());
  std::string sloppy;
  for (char c : code)
    sloppy.push_back(c == '-'   ? ' '
                     : c == '0' ? 'o'
                     : c == '1' ? 'l'
                                : static_cast<char>(std::tolower(c)));
  EXPECT_EQ(to_hex(key_from_recovery_code(sloppy)->bytes()), key);
  int caught = 0;
  for (size_t i = 0; i < code.size(); ++i) {
    if (code[i] == '-') continue;
    std::string typo = code;
    typo[i] = typo[i] == '7' ? '8' : '7';
    caught += !key_from_recovery_code(typo).ok();
  }
  EXPECT_EQ(caught, 36);
  EXPECT_FALSE(key_from_recovery_code("ABCD").ok());
  EXPECT_FALSE(looks_like_recovery_code("my long passphrase with words"));
}

}  // namespace
}  // namespace reclo::crypto
