#include "crypto/page_tagger.h"

#include <openssl/evp.h>

#include <array>

#include "base/limits.h"

namespace reclo::crypto {
namespace {

PageTag tag_one(EVP_CIPHER_CTX* context, ByteSpan page) {
  static constexpr std::array<uint8_t, 12> kNonce{};
  PageTag out;
  int size = 0;
  uint8_t nothing = 0;
  RECLO_CHECK(
      EVP_EncryptInit_ex(context, nullptr, nullptr, nullptr, kNonce.data()) == 1 &&
      EVP_EncryptUpdate(context, nullptr, &size, page.data(), static_cast<int>(page.size())) == 1 &&
      EVP_EncryptFinal_ex(context, &nothing, &size) == 1 &&
      EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, PageTag::kSize,
                          out.mutable_bytes().data()) == 1);
  if (out.is_zero()) out.mutable_bytes()[0] = 1;
  return out;
}

}  // namespace

void PageTagger::Free::operator()(evp_cipher_ctx_st* context) const {
  EVP_CIPHER_CTX_free(context);
}

PageTagger::PageTagger(SecretKey key) : key_(std::move(key)) {}

PageTagger::~PageTagger() = default;

// Setting up a context expands the key and its powers, which costs as much as tagging a page.
PageTagger::Context PageTagger::borrow() const {
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      Context context = std::move(idle_.back());
      idle_.pop_back();
      return context;
    }
  }
  Context context(EVP_CIPHER_CTX_new());
  RECLO_CHECK(context && EVP_EncryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr,
                                            key_.bytes().data(), nullptr) == 1);
  return context;
}

void PageTagger::tag(ByteSpan pages, std::span<PageTag> tags) const {
  RECLO_CHECK(pages.size() == tags.size() * kPageSizeBytes);
  Context context = borrow();
  for (size_t i = 0; i < tags.size(); ++i)
    tags[i] = tag_one(context.get(), pages.subspan(i * kPageSizeBytes, kPageSizeBytes));
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(context));
}

}  // namespace reclo::crypto
