// A 32-byte secret key in locked, guarded memory that is wiped on destruction (libsodium's
// sodium_malloc: never swapped, never in a core dump). Not copyable by accident: clone() says so.
// Thread rule: reading is safe from any thread.
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "base/result.h"

namespace reclo::crypto {

class SecretKey {
 public:
  static constexpr size_t kSize = 32;

  SecretKey() = default;  // empty: valid() is false
  static SecretKey random();
  /// `bytes` must be kSize long; the caller wipes its own copy.
  static SecretKey from_bytes(ByteSpan bytes);
  SecretKey(SecretKey&& other) noexcept;
  SecretKey& operator=(SecretKey&& other) noexcept;
  ~SecretKey();

  SecretKey clone() const;
  bool valid() const { return data_ != nullptr; }
  ByteSpan bytes() const {
    RECLO_CHECK(valid());
    return {data_, kSize};
  }

 private:
  uint8_t* data_ = nullptr;
};

/// Overwrites memory that held a secret; not optimised away.
void wipe(MutableByteSpan memory);
/// Compares without telling by its time where the difference is.
bool equal_constant_time(ByteSpan a, ByteSpan b);

}  // namespace reclo::crypto
