// AES-256-GCM with a counter as the nonce: each key is used for one pack (or one wrapped secret)
// and each counter once under it (docs/format.md §4).
#pragma once

#include <memory>

#include "base/bytes.h"
#include "base/result.h"
#include "crypto/secret.h"

struct evp_cipher_ctx_st;

namespace reclo::crypto {

inline constexpr size_t kAeadTagSize = 16;

/// One key, ready for many messages. Thread rule: one thread at a time. About 3 GB/s.
class Aead {
 public:
  explicit Aead(const SecretKey& key);
  ~Aead();
  Aead(Aead&&) noexcept;
  Aead& operator=(Aead&&) noexcept;

  /// Writes ciphertext ‖ tag: `out` must be plain.size() + kAeadTagSize long. The nonce is 96 bits:
  /// four zero bytes, then `counter` big-endian.
  void seal(uint64_t counter, ByteSpan associated, ByteSpan plain, MutableByteSpan out);
  /// Checks and decrypts; `out` must be sealed.size() - kAeadTagSize long and holds nothing useful
  /// after an error. Errors: kCorruption.
  Status open(uint64_t counter, ByteSpan associated, ByteSpan sealed, MutableByteSpan out);

 private:
  struct Free {
    void operator()(evp_cipher_ctx_st* context) const;
  };
  std::unique_ptr<evp_cipher_ctx_st, Free> seal_context_;
  std::unique_ptr<evp_cipher_ctx_st, Free> open_context_;
};

}  // namespace reclo::crypto
