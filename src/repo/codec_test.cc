#include "repo/codec.h"

#include <gtest/gtest.h>

#include <random>

#include "repo/test_repository.h"

namespace reclo::repo {
namespace {

Bytes text_of(size_t size_bytes) {
  Bytes out;
  for (size_t i = 0; out.size() < size_bytes; ++i) {
    const std::string line = "line " + std::to_string(i % 1000) + " of a log\n";
    out.insert(out.end(), line.begin(), line.end());
  }
  out.resize(size_bytes);
  return out;
}

Bytes noise_of(size_t size_bytes) {
  std::mt19937_64 random(size_bytes);
  Bytes out(size_bytes);
  for (uint8_t& byte : out) byte = static_cast<uint8_t>(random());
  return out;
}

TEST(Codec, GivesBackWhatItTook) {
  Compressor compressor;
  Decompressor decompressor;
  for (const size_t size : {0u, 1u, 100u, 4096u, 262144u, 4194304u}) {
    for (const Bytes& raw : {text_of(size), noise_of(size), Bytes(size, 0)}) {
      for (const int level : {-3, 1, 9}) {
        const Bytes payload = compressor.encode(raw, level);
        EXPECT_LE(payload.size(), raw.size() + kPayloadHeaderSize);
        Bytes out(raw.size());
        const Status status = decompressor.decode(payload, MutableByteSpan(out));
        ASSERT_TRUE(status.ok());
        EXPECT_EQ(out, raw);
        EXPECT_EQ(testing::must(decompressor.decode(payload, raw.size())), raw);
      }
    }
  }
}

TEST(Codec, StoresNoiseAndCompressesText) {
  Compressor compressor;
  EXPECT_EQ(compressor.encode(noise_of(262144), 1)[0], 0);
  EXPECT_EQ(compressor.encode(noise_of(262144), 1).size(), 262144 + kPayloadHeaderSize);
  const Bytes text = compressor.encode(text_of(262144), 1);
  EXPECT_EQ(text[0], 1);
  EXPECT_LT(text.size(), 262144u / 4);
  EXPECT_TRUE(looks_incompressible(noise_of(65536)));
  EXPECT_FALSE(looks_incompressible(text_of(65536)));
  EXPECT_FALSE(looks_incompressible(Bytes(65536, 0)));
}

TEST(Codec, RefusesWhatItCannotTrust) {
  Compressor compressor;
  Decompressor decompressor;
  const Bytes raw = text_of(8192);
  const Bytes payload = compressor.encode(raw, 1);
  Bytes out(raw.size());
  for (size_t cut = 0; cut < payload.size(); ++cut)
    EXPECT_FALSE(decompressor.decode(ByteSpan(payload).first(cut), MutableByteSpan(out)).ok());
  Bytes longer = payload;
  longer.push_back(0);
  EXPECT_FALSE(decompressor.decode(longer, MutableByteSpan(out)).ok());
  Bytes small(raw.size() - 1);
  EXPECT_EQ(decompressor.decode(payload, MutableByteSpan(small)).error().code(), Code::kCorruption);
  EXPECT_EQ(decompressor.decode(payload, raw.size() - 1).error().code(), Code::kCorruption);
  Bytes unknown = payload;
  unknown[0] = 2;
  EXPECT_EQ(decompressor.decode(unknown, MutableByteSpan(out)).error().code(), Code::kUnsupported);
  Bytes stored = compressor.encode(noise_of(8192), 1);
  stored.pop_back();
  EXPECT_EQ(decompressor.decode(stored, MutableByteSpan(out)).error().code(), Code::kCorruption);
}

}  // namespace
}  // namespace reclo::repo
