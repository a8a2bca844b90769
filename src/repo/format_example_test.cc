// The numbers of docs/format.md §11: a change of the format that forgets the document fails here.
#include <gtest/gtest.h>

#include "crypto/passphrase.h"
#include "repo/envelope.h"
#include "repo/test_repository.h"

namespace reclo::repo {
namespace {

using testing::must;

const RepositoryId kRepository = *RepositoryId::parse("00112233445566778899aabbccddeeff");
const SessionId kSession = *SessionId::parse("a0a1a2a3a4a5a6a7a8a9aaabacadaeaf");
const PackId kPack{kSession, 0x01000002};

crypto::SecretKey key_of(uint8_t byte) {
  return crypto::SecretKey::from_bytes(Bytes(crypto::SecretKey::kSize, byte));
}
std::string hex(const crypto::SecretKey& key) { return to_hex(key.bytes()); }

ChunkId example_chunk() {
  Bytes content(kPageSizeBytes, 'A');
  content.resize(2 * kPageSizeBytes, 'B');
  const crypto::ContentHasher hasher(key_of(0x11));
  std::array<PageTag, 2> tags;
  hasher.page_tags(content, tags);
  EXPECT_EQ(tags[0].hex(), "8ae0ee5ce37faea643e2ef52a40f9aed");
  EXPECT_EQ(tags[1].hex(), "27a1a52ea30b69b55ee840a7795381c2");
  return hasher.chunk_id(tags);
}

TEST(FormatExample, RecoveryCode) {
  const crypto::SecretKey words =
      must(crypto::key_from_recovery_code("000G-40R4-0M30-E209-185G-R38E-1W81-24GK-NW5Y"));
  EXPECT_EQ(hex(words), "c8b91d703e8b33c7b281c9ff6a06ddf9ae03204012e8b1e6604b5d113cd54ed9");
  EXPECT_EQ(
      hex(must(crypto::key_from_recovery_code("ooog 4or4 om3o e2o9 i85g r38e lw8i 24gk nw5y"))),
      hex(words));
  Bytes context = to_bytes(kRepository.bytes());
  for (const char c : std::string("0123456789abcdef")) context.push_back(static_cast<uint8_t>(c));
  EXPECT_EQ(hex(crypto::derive_key(words, "reclo/1 key slot", context)),
            "8cc869446a13030d2a93071534eb8deae2ec2263a0462779d114bd995bb33b40");
}

TEST(FormatExample, Check) {
  Json record = {{"format", 1}, {"note", "süd \"x\"\n"}, {"repository", kRepository.hex()}};
  add_check(record, key_of(0x33));
  EXPECT_EQ(record["check"], "6iXB5XzwDp4GF7D5U7sF6ljMx3dUMpKPTJn+TsweM50=");
}

TEST(FormatExample, Slot) {
  const ChunkId id = example_chunk();
  EXPECT_EQ(id.hex(), "6f3b003bbe4b73a3ed84b226e9d79d65");
  EXPECT_EQ(hex(pack_key(PackKind::kData, key_of(0x22), kPack)),
            "a2b7432aa786b0680bafb210d05f287eb8dc790bc266becef16368e5b135bab5");
  EXPECT_EQ(hex(pack_key(PackKind::kMap, key_of(0x11), kPack)),
            "9a34dcaefb19096c47a2168c6942a775eea6d5bc0c7d355cd14cb860d4a01eb7");
  Compressor compressor;
  const Bytes payload = compressor.encode(as_bytes("hello"), 1);
  EXPECT_EQ(to_hex(payload), "000500000068656c6c6f");
  crypto::Aead aead(pack_key(PackKind::kData, key_of(0x22), kPack));
  Bytes sealed(payload.size() + crypto::kAeadTagSize);
  aead.seal(3, slot_associated_data(kRepository, kPack, 3, id), payload, sealed);
  EXPECT_EQ(to_hex(sealed), "040b4e50f9137623e2f51bf578f3c1dfd1301040bf809758cb3e");
}

TEST(FormatExample, Nodes) {
  Leaf leaf;
  leaf.chunks = {{example_chunk(), {kPack, 0, 512, 8213}, 2}};
  leaf.extents = {{10, 2, 0, 0}};
  const Bytes leaf_bytes = encode_leaf(leaf);
  EXPECT_EQ(to_hex(leaf_bytes),
            "0100010001000100a0a1a2a3a4a5a6a7a8a9aaabacadaeaf02000001"
            "6f3b003bbe4b73a3ed84b226e9d79d65000000000002000015200000"
            "02000a00020000000000");
  const crypto::ContentHasher hasher(key_of(0x11));
  const ChunkId leaf_id = hasher.node_id(leaf_bytes);
  EXPECT_EQ(leaf_id.hex(), "5f2d3ebaa72b5969e7b02a95b5b0951b");
  InnerNode inner;
  inner.level = 1;
  inner.children = {{7, {leaf_id, {{kSession, 0x01000003}, 0, 512, 100}}}};
  const Bytes inner_bytes = encode_inner_node(inner);
  EXPECT_EQ(to_hex(inner_bytes),
            "020101000100a0a1a2a3a4a5a6a7a8a9aaabacadaeaf0300000107"
            "5f2d3ebaa72b5969e7b02a95b5b0951b000000000002000064000000");
  EXPECT_EQ(hasher.node_id(inner_bytes).hex(), "9913f1cd0a252cc4075385e05ffaa358");
}

}  // namespace
}  // namespace reclo::repo
