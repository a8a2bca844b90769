// The hashes that HTTP services want: SHA-256 and HMAC for signatures, MD5 for Content-MD5.
// MD5 guards against accidents on the way only. Safe from any thread.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "base/bytes.h"

namespace reclo::net {

using Sha256 = std::array<uint8_t, 32>;
using Md5 = std::array<uint8_t, 16>;

Sha256 sha256(ByteSpan data);
/// SHA-256 of something that comes in pieces. One thread.
class Sha256Stream {
 public:
  Sha256Stream();
  ~Sha256Stream();
  Sha256Stream(const Sha256Stream&) = delete;
  Sha256Stream& operator=(const Sha256Stream&) = delete;
  void update(ByteSpan piece);
  Sha256 finish();

 private:
  struct State;
  const std::unique_ptr<State> state_;
};
Md5 md5(ByteSpan data);
Sha256 hmac_sha256(ByteSpan key, ByteSpan data);

}  // namespace reclo::net
