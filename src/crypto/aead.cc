#include "crypto/aead.h"

#include <openssl/evp.h>

#include <array>

namespace reclo::crypto {
namespace {

std::array<uint8_t, 12> nonce_of(uint64_t counter) {
  std::array<uint8_t, 12> nonce{};
  for (int i = 0; i < 8; ++i) nonce[4 + i] = static_cast<uint8_t>(counter >> (56 - 8 * i));
  return nonce;
}

}  // namespace

void Aead::Free::operator()(evp_cipher_ctx_st* context) const { EVP_CIPHER_CTX_free(context); }

Aead::Aead(const SecretKey& key)
    : seal_context_(EVP_CIPHER_CTX_new()), open_context_(EVP_CIPHER_CTX_new()) {
  RECLO_CHECK(seal_context_ && open_context_);
  RECLO_CHECK(EVP_EncryptInit_ex(seal_context_.get(), EVP_aes_256_gcm(), nullptr,
                                 key.bytes().data(), nullptr) == 1);
  RECLO_CHECK(EVP_DecryptInit_ex(open_context_.get(), EVP_aes_256_gcm(), nullptr,
                                 key.bytes().data(), nullptr) == 1);
}

Aead::~Aead() = default;
Aead::Aead(Aead&&) noexcept = default;
Aead& Aead::operator=(Aead&&) noexcept = default;

void Aead::seal(uint64_t counter, ByteSpan associated, ByteSpan plain, MutableByteSpan out) {
  RECLO_CHECK(out.size() == plain.size() + kAeadTagSize);
  EVP_CIPHER_CTX* context = seal_context_.get();
  const auto nonce = nonce_of(counter);
  int size = 0;
  // Empty messages are sealed too (a tag alone); OpenSSL wants a pointer that is not null then.
  static constexpr uint8_t kNothing = 0;
  const uint8_t* from = plain.empty() ? &kNothing : plain.data();
  RECLO_CHECK(EVP_EncryptInit_ex(context, nullptr, nullptr, nullptr, nonce.data()) == 1);
  if (!associated.empty())
    RECLO_CHECK(EVP_EncryptUpdate(context, nullptr, &size, associated.data(),
                                  static_cast<int>(associated.size())) == 1);
  RECLO_CHECK(EVP_EncryptUpdate(context, out.data(), &size, from, static_cast<int>(plain.size())) ==
              1);
  int rest = 0;
  RECLO_CHECK(EVP_EncryptFinal_ex(context, out.data() + size, &rest) == 1);
  RECLO_CHECK(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, kAeadTagSize,
                                  out.data() + plain.size()) == 1);
}

Status Aead::open(uint64_t counter, ByteSpan associated, ByteSpan sealed, MutableByteSpan out) {
  if (sealed.size() < kAeadTagSize) return Error(Code::kCorruption, "sealed bytes are too short");
  const size_t plain_size = sealed.size() - kAeadTagSize;
  RECLO_CHECK(out.size() == plain_size);
  EVP_CIPHER_CTX* context = open_context_.get();
  const auto nonce = nonce_of(counter);
  int size = 0;
  uint8_t nothing = 0;
  uint8_t* to = out.empty() ? &nothing : out.data();
  RECLO_CHECK(EVP_DecryptInit_ex(context, nullptr, nullptr, nullptr, nonce.data()) == 1);
  if (!associated.empty())
    RECLO_CHECK(EVP_DecryptUpdate(context, nullptr, &size, associated.data(),
                                  static_cast<int>(associated.size())) == 1);
  RECLO_CHECK(EVP_DecryptUpdate(context, to, &size, sealed.data(), static_cast<int>(plain_size)) ==
              1);
  std::array<uint8_t, kAeadTagSize> tag;
  std::memcpy(tag.data(), sealed.data() + plain_size, kAeadTagSize);
  RECLO_CHECK(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, kAeadTagSize, tag.data()) == 1);
  int rest = 0;
  if (EVP_DecryptFinal_ex(context, to + size, &rest) != 1)
    return Error(Code::kCorruption, "authentication failed: these bytes are not what was written");
  return {};
}

}  // namespace reclo::crypto
