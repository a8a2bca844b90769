// What a pack says about itself. Input: one byte that chooses header, trailer or footer, then its
// bytes. Footers are sealed here first: their parser stands behind the seal.
#include "base/check.h"
#include "base/limits.h"
#include "crypto/hash.h"
#include "repo/pack.h"

using namespace reclo;

namespace {

void check_header(ByteSpan bytes) {
  const auto header = repo::decode_pack_header(bytes);
  if (!header.ok()) return;
  const auto again = repo::decode_pack_header(repo::encode_pack_header(*header));
  RECLO_CHECK(again.ok() && again->id == header->id && again->kind == header->kind &&
              again->sealed_data_keys == header->sealed_data_keys);
}

void check_trailer(ByteSpan bytes) {
  ByteReader in(bytes);
  const uint64_t pack_size = in.u64();
  const auto place = repo::decode_pack_trailer(in.raw(in.remaining()), pack_size);
  if (!place.ok()) return;
  RECLO_CHECK(place->offset_bytes >= repo::kPackHeaderSize && pack_size <= kPackSizeBytesMax);
  RECLO_CHECK(place->offset_bytes + place->stored_bytes + repo::kPackTrailerSize == pack_size);
}

void check_footer(ByteSpan bytes) {
  const Bytes zeros(crypto::SecretKey::kSize, 0);
  static const crypto::SecretKey kMapKey = crypto::SecretKey::from_bytes(zeros);
  const RepositoryId repository;
  const repo::PackId pack;
  Bytes associated = to_bytes("footer");
  associated.resize(associated.size() + 16 + 16 + 4, 0);
  Bytes sealed(bytes.size() + crypto::kAeadTagSize);
  crypto::Aead aead(repo::footer_key(kMapKey, pack));
  aead.seal(0, associated, bytes, sealed);
  uint64_t end = repo::kPackHeaderSize;
  ByteReader in(bytes);
  while (in.remaining() >= 24) {
    in.raw(20);
    end += in.u32();
  }
  const auto slots = repo::open_pack_footer(sealed, repository, pack, kMapKey, end);
  if (!slots.ok()) return;
  uint64_t at = repo::kPackHeaderSize;
  for (const repo::SlotInfo& slot : *slots) {
    RECLO_CHECK(slot.offset_bytes == at);
    at += slot.stored_bytes;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const ByteSpan bytes = ByteSpan(data, size).subspan(1);
  if (data[0] % 3 == 0) check_header(bytes);
  if (data[0] % 3 == 1) check_trailer(bytes);
  if (data[0] % 3 == 2) check_footer(bytes);
  return 0;
}
