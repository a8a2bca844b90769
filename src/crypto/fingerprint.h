// Fast keyed fingerprints of 4 KiB pages: how an agent notices that a page changed.
//
// GMAC (NIST SP 800-38D) under a secret key with a constant nonce, that is GHASH with a secret
// point: two different pages have the same fingerprint with probability below 2^-119 for anyone who
// does not know the key, whatever he writes. About 3 times as fast as SHA-256 with SHA-NI.
// Fingerprints stay in the agent's state folder and are no part of the format (docs/adr/0007).
// Thread rule: one object per thread.
#pragma once

#include <memory>

#include "base/bytes.h"
#include "base/ids.h"
#include "crypto/secret.h"

struct evp_cipher_ctx_st;

namespace reclo::crypto {

class PageFingerprinter {
 public:
  explicit PageFingerprinter(const SecretKey& map_key);
  ~PageFingerprinter();
  /// `page` is exactly 4 KiB. Never zero: zero stands for a hole.
  PageFingerprint fingerprint(ByteSpan page);

 private:
  struct Free {
    void operator()(evp_cipher_ctx_st* context) const;
  };
  std::unique_ptr<evp_cipher_ctx_st, Free> context_;
};

}  // namespace reclo::crypto
