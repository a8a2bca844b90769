#include "repo/pack.h"

#include <gtest/gtest.h>

#include "base/limits.h"
#include "os/random.h"
#include "repo/test_repository.h"

namespace reclo::repo {
namespace {

using testing::must;

// A pack of a few slots with everything needed to open it.
struct Sample {
  crypto::SecretKey data_key = crypto::SecretKey::random();
  crypto::SecretKey map_key = crypto::SecretKey::random();
  PackHeader header;
  std::vector<Bytes> payloads;
  std::vector<ChunkId> ids;
  std::vector<SlotAddress> at;
  SealedPack pack;

  explicit Sample(std::vector<size_t> sizes, PackKind kind = PackKind::kData) {
    header.kind = kind;
    header.repository = os::random_id<RepositoryId>();
    header.machine = os::random_id<MachineId>();
    header.id = {os::random_id<SessionId>(), 0x02000007};
    if (kind == PackKind::kData) header.sealed_data_keys = {Bytes(80, 0xab), Bytes(80, 0xcd)};
    PackBuilder builder(header, parent(), map_key);
    for (const size_t size : sizes) {
      payloads.emplace_back(size, static_cast<uint8_t>(size));
      ids.push_back(os::random_id<ChunkId>());
      at.push_back(builder.add(ids.back(), payloads.back()));
    }
    pack = std::move(builder).finish();
  }
  const crypto::SecretKey& parent() const {
    return header.kind == PackKind::kData ? data_key : map_key;
  }
  bool slot_opens(ByteSpan pack_bytes, size_t i) const {
    crypto::Aead aead(pack_key(header.kind, parent(), header.id));
    Bytes plain(payloads[i].size());
    const Status status = aead.open(
        at[i].slot, slot_associated_data(header.repository, header.id, at[i].slot, ids[i]),
        pack_bytes.subspan(at[i].offset_bytes, at[i].stored_bytes), plain);
    return status.ok() && plain == payloads[i];
  }
  // Whether everything that a pack says about itself is as written.
  bool describes_itself(ByteSpan bytes) const {
    const auto decoded = decode_pack_header(bytes.first(kPackHeaderSize));
    if (!decoded.ok() || encode_pack_header(*decoded) != encode_pack_header(header)) return false;
    if (to_bytes(bytes.first(kPackHeaderSize)) != encode_pack_header(*decoded)) return false;
    const auto place = decode_pack_trailer(bytes.last(kPackTrailerSize), bytes.size());
    if (!place.ok()) return false;
    const auto slots = open_pack_footer(bytes.subspan(place->offset_bytes, place->stored_bytes),
                                        header.repository, header.id, map_key, place->offset_bytes);
    return slots.ok() && slots->size() == ids.size();
  }
};

TEST(Pack, DescribesItselfAndOpens) {
  for (const PackKind kind : {PackKind::kData, PackKind::kMap}) {
    const Sample sample({1, 100, 0, 70000, 5}, kind);
    EXPECT_TRUE(sample.describes_itself(sample.pack.bytes));
    const auto header = must(decode_pack_header(sample.pack.bytes));
    EXPECT_EQ(header.kind, kind);
    EXPECT_EQ(header.id, sample.header.id);
    EXPECT_EQ(header.id.run(), 2u);
    EXPECT_EQ(header.sealed_data_keys, sample.header.sealed_data_keys);
    uint32_t offset = kPackHeaderSize;
    for (size_t i = 0; i < sample.ids.size(); ++i) {
      EXPECT_TRUE(sample.slot_opens(sample.pack.bytes, i));
      EXPECT_EQ(sample.pack.slots[i].id, sample.ids[i]);
      EXPECT_EQ(sample.at[i].offset_bytes, offset);
      offset += sample.at[i].stored_bytes;
    }
  }
}

TEST(Pack, MayBeEmpty) {
  const Sample sample({});
  EXPECT_TRUE(sample.describes_itself(sample.pack.bytes));
}

TEST(Pack, EveryFlippedBitIsNoticed) {
  const Sample sample({1, 60, 300});
  for (size_t byte = 0; byte < sample.pack.bytes.size(); ++byte) {
    for (const uint8_t bit : {uint8_t{0x01}, uint8_t{0x80}}) {
      Bytes damaged = sample.pack.bytes;
      damaged[byte] = static_cast<uint8_t>(damaged[byte] ^ bit);
      bool noticed = !sample.describes_itself(damaged);
      for (size_t i = 0; i < sample.ids.size(); ++i) noticed |= !sample.slot_opens(damaged, i);
      EXPECT_TRUE(noticed) << "byte " << byte << " of " << damaged.size();
    }
  }
}

TEST(Pack, EveryLengthButItsOwnIsNoticed) {
  const Sample sample({1, 60, 300});
  for (size_t size = kPackHeaderSize + kPackTrailerSize; size < sample.pack.bytes.size(); ++size)
    EXPECT_FALSE(sample.describes_itself(ByteSpan(sample.pack.bytes).first(size))) << size;
  Bytes longer = sample.pack.bytes;
  longer.push_back(0);
  EXPECT_FALSE(sample.describes_itself(longer));
}

TEST(Pack, ASlotOpensOnlyInItsOwnPlace) {
  const Sample sample({64, 64});
  crypto::Aead aead(pack_key(PackKind::kData, sample.data_key, sample.header.id));
  const ByteSpan sealed =
      ByteSpan(sample.pack.bytes).subspan(sample.at[0].offset_bytes, sample.at[0].stored_bytes);
  Bytes plain(64);
  const auto opens = [&](uint64_t counter, const RepositoryId& repository, const PackId& pack,
                         uint16_t slot, const ChunkId& id) {
    return aead.open(counter, slot_associated_data(repository, pack, slot, id), sealed, plain).ok();
  };
  const PackHeader& header = sample.header;
  const ChunkId id = sample.ids[0];
  EXPECT_TRUE(opens(0, header.repository, header.id, 0, id));
  EXPECT_FALSE(opens(1, header.repository, header.id, 0, id));
  EXPECT_FALSE(opens(0, header.repository, header.id, 1, id));
  EXPECT_FALSE(opens(0, header.repository, header.id, 0, sample.ids[1]));
  EXPECT_FALSE(opens(0, os::random_id<RepositoryId>(), header.id, 0, id));
  EXPECT_FALSE(opens(0, header.repository, {header.id.session, header.id.number + 1}, 0, id));
  // The second slot's bytes in the first one's place.
  Bytes swapped = sample.pack.bytes;
  std::swap_ranges(swapped.begin() + sample.at[0].offset_bytes,
                   swapped.begin() + sample.at[1].offset_bytes,
                   swapped.begin() + sample.at[1].offset_bytes);
  EXPECT_FALSE(sample.slot_opens(swapped, 0));
  EXPECT_FALSE(sample.slot_opens(swapped, 1));
}

TEST(Pack, KeysDifferByPackAndKind) {
  const crypto::SecretKey parent = crypto::SecretKey::random();
  const PackId pack{os::random_id<SessionId>(), 3};
  const PackId next{pack.session, 4};
  const auto text = [](const crypto::SecretKey& key) { return to_hex(key.bytes()); };
  EXPECT_EQ(text(pack_key(PackKind::kData, parent, pack)),
            text(pack_key(PackKind::kData, parent, pack)));
  EXPECT_NE(text(pack_key(PackKind::kData, parent, pack)),
            text(pack_key(PackKind::kData, parent, next)));
  EXPECT_NE(text(pack_key(PackKind::kData, parent, pack)),
            text(pack_key(PackKind::kMap, parent, pack)));
  EXPECT_NE(text(pack_key(PackKind::kMap, parent, pack)), text(footer_key(parent, pack)));
}

TEST(Pack, RefusesNewerVersionsAndBrokenHeaders) {
  const Sample sample({10});
  const Bytes good = encode_pack_header(sample.header);
  const auto code_with = [&](size_t at, uint8_t value) {
    Bytes changed = good;
    changed[at] = value;
    const auto decoded = decode_pack_header(changed);
    return decoded.ok() ? std::optional<Code>() : std::optional(decoded.error().code());
  };
  EXPECT_EQ(code_with(0, 'X'), Code::kCorruption);  // magic
  EXPECT_EQ(code_with(8, 2), Code::kUnsupported);   // version
  EXPECT_EQ(code_with(10, 3), Code::kCorruption);   // kind
  EXPECT_EQ(code_with(11, 2), Code::kUnsupported);  // cipher
  EXPECT_EQ(code_with(64, 5), Code::kCorruption);   // sealed key count
  EXPECT_EQ(code_with(66, 81), Code::kCorruption);  // sealed key size
  for (size_t size = 0; size < 230; ++size)
    EXPECT_FALSE(decode_pack_header(ByteSpan(good).first(size)).ok()) << size;
}

}  // namespace
}  // namespace reclo::repo
