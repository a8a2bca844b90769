#include "net/digest.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/check.h"

namespace reclo::net {
namespace {

template <class Out>
Out digest(const EVP_MD* algorithm, ByteSpan data) {
  Out out;
  unsigned size_bytes = 0;
  RECLO_CHECK(EVP_Digest(data.data(), data.size(), out.data(), &size_bytes, algorithm, nullptr) ==
              1);
  RECLO_CHECK(size_bytes == out.size());
  return out;
}

}  // namespace

Sha256 sha256(ByteSpan data) { return digest<Sha256>(EVP_sha256(), data); }

Md5 md5(ByteSpan data) { return digest<Md5>(EVP_md5(), data); }

Sha256 hmac_sha256(ByteSpan key, ByteSpan data) {
  Sha256 out;
  unsigned size_bytes = 0;
  RECLO_CHECK(HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), data.data(), data.size(),
                   out.data(), &size_bytes) != nullptr);
  RECLO_CHECK(size_bytes == out.size());
  return out;
}

struct Sha256Stream::State {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context{EVP_MD_CTX_new(),
                                                                  EVP_MD_CTX_free};
};

Sha256Stream::Sha256Stream() : state_(std::make_unique<State>()) {
  RECLO_CHECK(EVP_DigestInit_ex(state_->context.get(), EVP_sha256(), nullptr) == 1);
}
Sha256Stream::~Sha256Stream() = default;

void Sha256Stream::update(ByteSpan piece) {
  RECLO_CHECK(EVP_DigestUpdate(state_->context.get(), piece.data(), piece.size()) == 1);
}

Sha256 Sha256Stream::finish() {
  Sha256 out;
  RECLO_CHECK(EVP_DigestFinal_ex(state_->context.get(), out.data(), nullptr) == 1);
  return out;
}

}  // namespace reclo::net
