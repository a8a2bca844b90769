#include "crypto/secret.h"

#include <sodium.h>

#include <utility>

namespace reclo::crypto {
namespace {

uint8_t* allocate() {
  // sodium_init() is idempotent and thread-safe; it fails only without a random source.
  RECLO_CHECK(sodium_init() >= 0);
  auto* memory = static_cast<uint8_t*>(sodium_malloc(SecretKey::kSize));
  RECLO_CHECK(memory != nullptr);
  return memory;
}

}  // namespace

SecretKey SecretKey::random() {
  SecretKey key;
  key.data_ = allocate();
  randombytes_buf(key.data_, kSize);
  return key;
}

SecretKey SecretKey::from_bytes(ByteSpan bytes) {
  RECLO_CHECK(bytes.size() == kSize);
  SecretKey key;
  key.data_ = allocate();
  std::memcpy(key.data_, bytes.data(), kSize);
  return key;
}

SecretKey::SecretKey(SecretKey&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}

SecretKey& SecretKey::operator=(SecretKey&& other) noexcept {
  if (this != &other) {
    sodium_free(data_);
    data_ = std::exchange(other.data_, nullptr);
  }
  return *this;
}

SecretKey::~SecretKey() { sodium_free(data_); }

SecretKey SecretKey::clone() const { return from_bytes(bytes()); }

void wipe(MutableByteSpan memory) {
  if (!memory.empty()) sodium_memzero(memory.data(), memory.size());
}

bool equal_constant_time(ByteSpan a, ByteSpan b) {
  return a.size() == b.size() && (a.empty() || sodium_memcmp(a.data(), b.data(), a.size()) == 0);
}

}  // namespace reclo::crypto
