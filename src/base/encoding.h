// Text forms of bytes: lower-case hex and standard base64 (RFC 4648 §4, padded).
#pragma once

#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace reclo {

std::string to_hex(ByteSpan bytes);
Result<Bytes> from_hex(std::string_view text);

std::string to_base64(ByteSpan bytes);
/// Strict: no white space, right padding. Errors: kInvalidArgument.
Result<Bytes> from_base64(std::string_view text);

}  // namespace reclo
