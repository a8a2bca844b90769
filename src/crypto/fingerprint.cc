#include "crypto/fingerprint.h"

#include <openssl/evp.h>

#include <array>

#include "base/limits.h"
#include "crypto/hash.h"

namespace reclo::crypto {

void PageFingerprinter::Free::operator()(evp_cipher_ctx_st* context) const {
  EVP_CIPHER_CTX_free(context);
}

PageFingerprinter::PageFingerprinter(const SecretKey& map_key) : context_(EVP_CIPHER_CTX_new()) {
  const SecretKey key = derive_key(map_key, "reclo/1 page fingerprint", {});
  RECLO_CHECK(context_ && EVP_EncryptInit_ex(context_.get(), EVP_aes_256_gcm(), nullptr,
                                             key.bytes().data(), nullptr) == 1);
}

PageFingerprinter::~PageFingerprinter() = default;

PageFingerprint PageFingerprinter::fingerprint(ByteSpan page) {
  RECLO_CHECK(page.size() == kPageSizeBytes);
  static constexpr std::array<uint8_t, 12> kNonce{};
  PageFingerprint out;
  int size = 0;
  uint8_t nothing = 0;
  EVP_CIPHER_CTX* context = context_.get();
  RECLO_CHECK(
      EVP_EncryptInit_ex(context, nullptr, nullptr, nullptr, kNonce.data()) == 1 &&
      EVP_EncryptUpdate(context, nullptr, &size, page.data(), static_cast<int>(page.size())) == 1 &&
      EVP_EncryptFinal_ex(context, &nothing, &size) == 1 &&
      EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, PageFingerprint::kSize,
                          out.mutable_bytes().data()) == 1);
  if (out.is_zero()) out.mutable_bytes()[0] = 1;
  return out;
}

}  // namespace reclo::crypto
