#include "repo/pack.h"

#include <fmt/format.h>

#include "base/limits.h"
#include "crypto/hash.h"

namespace reclo::repo {
namespace {

constexpr std::string_view kHeaderMagic = "RCLOPACK";
constexpr std::string_view kTrailerMagic = "RCLOTAIL";
constexpr uint16_t kPackVersion = 1;
constexpr uint8_t kAes256Gcm = 1;
constexpr size_t kSealedKeysMax = 4;
constexpr size_t kSealedKeySize = 80;
constexpr size_t kFooterEntrySize = 16 + 4 + 4;

static_assert(8 + 2 + 2 + 16 * 3 + 4 + 2 + kSealedKeysMax * (2 + kSealedKeySize) <=
              kPackHeaderSize);

Bytes pack_context(const PackId& pack) {
  Bytes context;
  ByteWriter out(context);
  out.raw(pack.session.bytes());
  out.u32(pack.number);
  return context;
}

Bytes footer_associated_data(const RepositoryId& repository, const PackId& pack) {
  Bytes bytes = to_bytes("footer");
  ByteWriter out(bytes);
  out.raw(repository.bytes());
  out.raw(pack_context(pack));
  return bytes;
}

}  // namespace

Bytes encode_pack_header(const PackHeader& header) {
  RECLO_CHECK(header.sealed_data_keys.size() <= kSealedKeysMax);
  Bytes bytes;
  ByteWriter out(bytes);
  out.raw(as_bytes(kHeaderMagic));
  out.u16(kPackVersion);
  out.u8(static_cast<uint8_t>(header.kind));
  out.u8(kAes256Gcm);
  out.raw(header.repository.bytes());
  out.raw(header.machine.bytes());
  out.raw(pack_context(header.id));
  out.u16(static_cast<uint16_t>(header.sealed_data_keys.size()));
  for (const Bytes& sealed : header.sealed_data_keys) {
    RECLO_CHECK(sealed.size() == kSealedKeySize);
    out.u16(static_cast<uint16_t>(sealed.size()));
    out.raw(sealed);
  }
  bytes.resize(kPackHeaderSize, 0);
  return bytes;
}

Result<PackHeader> decode_pack_header(ByteSpan bytes) {
  ByteReader in(bytes);
  const ByteSpan magic = in.raw(kHeaderMagic.size());
  if (!in.ok() || as_text(magic) != kHeaderMagic)
    return Error(Code::kCorruption, "this object does not begin like a pack");
  const uint16_t version = in.u16();
  if (in.ok() && version != kPackVersion)
    return Error(Code::kUnsupported,
                 fmt::format("a pack of format version {} needs a newer ReClo", version));
  PackHeader header;
  const uint8_t kind = in.u8();
  const uint8_t cipher = in.u8();
  in.copy_to(header.repository.mutable_bytes());
  in.copy_to(header.machine.mutable_bytes());
  in.copy_to(header.id.session.mutable_bytes());
  header.id.number = in.u32();
  const size_t key_count = in.u16();
  if (!in.ok() || key_count > kSealedKeysMax || (kind != 1 && kind != 2))
    return Error(Code::kCorruption, "a pack's header is malformed");
  if (cipher != kAes256Gcm)
    return Error(Code::kUnsupported, "a pack with a cipher that this version does not know");
  header.kind = static_cast<PackKind>(kind);
  for (size_t i = 0; i < key_count; ++i) {
    const size_t size = in.u16();
    const ByteSpan sealed = in.raw(size);
    if (!in.ok() || size != kSealedKeySize)
      return Error(Code::kCorruption, "a pack's header is malformed");
    header.sealed_data_keys.push_back(to_bytes(sealed));
  }
  return header;
}

Bytes slot_associated_data(const RepositoryId& repository, const PackId& pack, uint16_t slot,
                           const ChunkId& id) {
  Bytes bytes;
  bytes.reserve(16 + 20 + 2 + 16);
  ByteWriter out(bytes);
  out.raw(repository.bytes());
  out.raw(pack_context(pack));
  out.u16(slot);
  out.raw(id.bytes());
  return bytes;
}

crypto::SecretKey pack_key(PackKind kind, const crypto::SecretKey& parent, const PackId& pack) {
  return crypto::derive_key(parent,
                            kind == PackKind::kData ? "reclo/1 data pack" : "reclo/1 map pack",
                            pack_context(pack));
}

crypto::SecretKey footer_key(const crypto::SecretKey& map_key, const PackId& pack) {
  return crypto::derive_key(map_key, "reclo/1 pack footer", pack_context(pack));
}

PackBuilder::PackBuilder(PackHeader header, const crypto::SecretKey& parent_key,
                         const crypto::SecretKey& map_key)
    : header_(std::move(header)),
      slot_aead_(pack_key(header_.kind, parent_key, header_.id)),
      footer_key_(footer_key(map_key, header_.id)),
      bytes_(encode_pack_header(header_)) {
  // One reservation instead of doublings, which would copy and for a moment hold half as much
  // again. Memory that is never written is never taken.
  bytes_.reserve(kPackSizeBytesTarget + kMiB);
}

SlotAddress PackBuilder::add(const ChunkId& id, ByteSpan payload) {
  RECLO_CHECK(slots_.size() < kPackSlotsMax);
  SlotAddress at;
  at.pack = header_.id;
  at.slot = static_cast<uint16_t>(slots_.size());
  at.offset_bytes = static_cast<uint32_t>(bytes_.size());
  at.stored_bytes = static_cast<uint32_t>(payload.size() + crypto::kAeadTagSize);
  RECLO_CHECK(bytes_.size() + at.stored_bytes < kPackSizeBytesMax);
  bytes_.resize(bytes_.size() + at.stored_bytes);
  const MutableByteSpan sealed = MutableByteSpan(bytes_).subspan(at.offset_bytes);
  const Bytes associated = slot_associated_data(header_.repository, header_.id, at.slot, id);
  slot_aead_.seal(at.slot, associated, payload, sealed);

  check_.resize(payload.size());
  const Status opened = slot_aead_.open(at.slot, associated, sealed, check_);
  // Fails only on broken memory or a broken processor: stop before anything bad is stored.
  RECLO_CHECK(opened.ok() && std::equal(payload.begin(), payload.end(), check_.begin()));
  slots_.push_back({id, at.offset_bytes, at.stored_bytes});
  return at;
}

bool PackBuilder::full() const {
  return bytes_.size() >= kPackSizeBytesTarget || slots_.size() >= kPackSlotsMax;
}

SealedPack PackBuilder::finish() && {
  Bytes footer;
  footer.reserve(slots_.size() * kFooterEntrySize);
  ByteWriter out(footer);
  for (const SlotInfo& slot : slots_) {
    out.raw(slot.id.bytes());
    out.u32(slot.offset_bytes);
    out.u32(slot.stored_bytes);
  }
  const size_t at = bytes_.size();
  const size_t sealed_size = footer.size() + crypto::kAeadTagSize;
  bytes_.resize(at + sealed_size);
  crypto::Aead aead(footer_key_);
  aead.seal(0, footer_associated_data(header_.repository, header_.id), footer,
            MutableByteSpan(bytes_).subspan(at, sealed_size));
  ByteWriter tail(bytes_);
  tail.u32(static_cast<uint32_t>(sealed_size));
  tail.u32(static_cast<uint32_t>(slots_.size()));
  tail.raw(as_bytes(kTrailerMagic));
  return {header_.id, header_.kind, std::move(bytes_), std::move(slots_)};
}

Result<FooterPlace> decode_pack_trailer(ByteSpan trailer, uint64_t pack_size_bytes) {
  ByteReader in(trailer);
  FooterPlace place;
  place.stored_bytes = in.u32();
  const uint32_t slot_count = in.u32();
  const ByteSpan magic = in.raw(kTrailerMagic.size());
  const uint64_t fixed = kPackHeaderSize + kPackTrailerSize;
  if (!in.at_end() || as_text(magic) != kTrailerMagic || slot_count > kPackSlotsMax ||
      place.stored_bytes != slot_count * kFooterEntrySize + crypto::kAeadTagSize ||
      pack_size_bytes > kPackSizeBytesMax || pack_size_bytes < fixed + place.stored_bytes)
    return Error(Code::kCorruption, "a pack's end is malformed: it was cut off or changed");
  place.offset_bytes = pack_size_bytes - kPackTrailerSize - place.stored_bytes;
  return place;
}

Result<std::vector<SlotInfo>> open_pack_footer(ByteSpan sealed_footer,
                                               const RepositoryId& repository, const PackId& pack,
                                               const crypto::SecretKey& map_key,
                                               uint64_t footer_offset_bytes) {
  if (sealed_footer.size() < crypto::kAeadTagSize)
    return Error(Code::kCorruption, "a pack's footer is cut off");
  Bytes footer(sealed_footer.size() - crypto::kAeadTagSize);
  crypto::Aead aead(footer_key(map_key, pack));
  RECLO_TRY_WITH(aead.open(0, footer_associated_data(repository, pack), sealed_footer, footer),
                 "a pack's footer");
  if (footer.size() % kFooterEntrySize != 0)
    return Error(Code::kCorruption, "a pack's footer is malformed");
  std::vector<SlotInfo> slots(footer.size() / kFooterEntrySize);
  ByteReader in(footer);
  uint64_t next_offset = kPackHeaderSize;
  for (SlotInfo& slot : slots) {
    in.copy_to(slot.id.mutable_bytes());
    slot.offset_bytes = in.u32();
    slot.stored_bytes = in.u32();
    if (slot.offset_bytes != next_offset || slot.stored_bytes < crypto::kAeadTagSize)
      return Error(Code::kCorruption, "a pack's footer is malformed");
    next_offset += slot.stored_bytes;
  }
  if (next_offset != footer_offset_bytes)
    return Error(Code::kCorruption, "a pack's footer does not fit its slots");
  return slots;
}

}  // namespace reclo::repo
