#include "crypto/hash.h"

// The low-level SHA256_* calls are deprecated in OpenSSL 3 but are the only ones that let a
// computed state be copied without an allocation for every page.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/sha.h>

#include "base/limits.h"

namespace reclo::crypto {
namespace {

struct States {
  SHA256_CTX inner;
  SHA256_CTX outer;
};
static_assert(sizeof(States) <= 224);

constexpr size_t kBlockSize = 64;

template <class IdType>
IdType truncated(const Sha256Digest& digest) {
  return IdType::from_bytes(ByteSpan(digest).first(IdType::kSize));
}

}  // namespace

Sha256Digest sha256(ByteSpan data) {
  Sha256Digest out;
  SHA256(data.data(), data.size(), out.data());
  return out;
}

Sha256Digest hmac_sha256(ByteSpan key, ByteSpan data) {
  Sha256Digest out;
  unsigned size = 0;
  RECLO_CHECK(HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), data.data(), data.size(),
                   out.data(), &size) != nullptr);
  return out;
}

SecretKey derive_key(const SecretKey& key, std::string_view label, ByteSpan context) {
  // One output block: T(1) = HMAC(PRK, info ‖ 0x01) with PRK = HMAC(32 zero bytes, key).
  const std::array<uint8_t, 32> no_salt{};
  Sha256Digest extracted = hmac_sha256(no_salt, key.bytes());
  Bytes info = to_bytes(label);
  info.insert(info.end(), context.begin(), context.end());
  info.push_back(1);
  Sha256Digest expanded = hmac_sha256(extracted, info);
  SecretKey out = SecretKey::from_bytes(expanded);
  wipe(extracted);
  wipe(expanded);
  return out;
}

KeyedHash::KeyedHash(const SecretKey& key) {
  static_assert(SecretKey::kSize <= kBlockSize);
  auto* states = new (states_.data()) States;
  uint8_t pad[kBlockSize];
  const auto absorb = [&](SHA256_CTX& state, uint8_t xor_with) {
    std::memset(pad, xor_with, sizeof pad);
    for (size_t i = 0; i < SecretKey::kSize; ++i) pad[i] ^= key.bytes()[i];
    SHA256_Init(&state);
    SHA256_Update(&state, pad, sizeof pad);
  };
  absorb(states->inner, 0x36);
  absorb(states->outer, 0x5c);
  wipe(pad);
}

KeyedHash::~KeyedHash() { wipe(states_); }

Sha256Digest KeyedHash::digest(ByteSpan message) const {
  const auto* states = std::launder(reinterpret_cast<const States*>(states_.data()));
  SHA256_CTX state = states->inner;
  Sha256Digest inner;
  SHA256_Update(&state, message.data(), message.size());
  SHA256_Final(inner.data(), &state);
  state = states->outer;
  Sha256Digest out;
  SHA256_Update(&state, inner.data(), inner.size());
  SHA256_Final(out.data(), &state);
  return out;
}

ContentHasher::ContentHasher(const SecretKey& map_key)
    : tagger_(derive_key(map_key, "reclo/1 page tag", {})),
      chunk_hash_(derive_key(map_key, "reclo/1 chunk id", {})),
      node_hash_(derive_key(map_key, "reclo/1 node id", {})) {}

void ContentHasher::page_tags(ByteSpan data, std::span<PageTag> tags) const {
  tagger_.tag(data, tags);
}

ChunkId ContentHasher::chunk_id(std::span<const PageTag> tags) const {
  static_assert(sizeof(PageTag) == PageTag::kSize);
  return truncated<ChunkId>(
      chunk_hash_.digest({reinterpret_cast<const uint8_t*>(tags.data()), tags.size_bytes()}));
}

ChunkId ContentHasher::node_id(ByteSpan payload) const {
  return truncated<ChunkId>(node_hash_.digest(payload));
}

}  // namespace reclo::crypto
