// Keyed tags of 4 KiB pages: what a page's content is known by (docs/format.md §5.3).
//
// GMAC (NIST SP 800-38D) under a secret key with a constant nonce, that is GHASH at a secret point:
// two different pages have the same tag with probability below 2^-119 for anyone who does not know
// the key, whatever he writes. Tags never leave the machine: the repository holds only keyed hashes
// of them. About 3 times as fast as SHA-256 with SHA-NI (docs/adr/0008).
// Thread rule: const methods are safe from any thread.
#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "crypto/secret.h"

struct evp_cipher_ctx_st;

namespace reclo::crypto {

class PageTagger {
 public:
  explicit PageTagger(SecretKey key);
  ~PageTagger();
  /// One tag for each 4 KiB of `pages`; sizes must fit. A tag is never zero: that is a hole's.
  void tag(ByteSpan pages, std::span<PageTag> tags) const;

 private:
  struct Free {
    void operator()(evp_cipher_ctx_st* context) const;
  };
  using Context = std::unique_ptr<evp_cipher_ctx_st, Free>;
  Context borrow() const;

  const SecretKey key_;
  mutable std::mutex mutex_;
  mutable std::vector<Context> idle_;  // guarded by mutex_; at most one for each thread at work
};

}  // namespace reclo::crypto
