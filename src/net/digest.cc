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

}  // namespace reclo::net
