// The hashes that HTTP services want: SHA-256 and HMAC for signatures, MD5 for Content-MD5.
// MD5 guards against accidents on the way only. Safe from any thread.
#pragma once

#include <array>
#include <string>

#include "base/bytes.h"

namespace reclo::net {

using Sha256 = std::array<uint8_t, 32>;
using Md5 = std::array<uint8_t, 16>;

Sha256 sha256(ByteSpan data);
Md5 md5(ByteSpan data);
Sha256 hmac_sha256(ByteSpan key, ByteSpan data);

}  // namespace reclo::net
