#include "base/encoding.h"

#include <array>

namespace reclo {
namespace {

constexpr std::string_view kHexDigits = "0123456789abcdef";
constexpr std::string_view kBase64Digits =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::array<int8_t, 256> base64_values() {
  std::array<int8_t, 256> values;
  values.fill(-1);
  for (size_t i = 0; i < kBase64Digits.size(); ++i)
    values[static_cast<uint8_t>(kBase64Digits[i])] = static_cast<int8_t>(i);
  return values;
}

}  // namespace

std::string to_hex(ByteSpan bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (uint8_t byte : bytes) {
    out.push_back(kHexDigits[byte >> 4]);
    out.push_back(kHexDigits[byte & 15]);
  }
  return out;
}

Result<Bytes> from_hex(std::string_view text) {
  if (text.size() % 2 != 0) return Error(Code::kInvalidArgument, "hex text of odd length");
  Bytes out;
  out.reserve(text.size() / 2);
  for (size_t i = 0; i < text.size(); i += 2) {
    const int high = hex_value(text[i]);
    const int low = hex_value(text[i + 1]);
    if (high < 0 || low < 0) return Error(Code::kInvalidArgument, "not a hex digit");
    out.push_back(static_cast<uint8_t>(high * 16 + low));
  }
  return out;
}

std::string to_base64(ByteSpan bytes) {
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t have = std::min<size_t>(3, bytes.size() - i);
    uint32_t word = static_cast<uint32_t>(bytes[i]) << 16;
    if (have > 1) word |= static_cast<uint32_t>(bytes[i + 1]) << 8;
    if (have > 2) word |= bytes[i + 2];
    out.push_back(kBase64Digits[(word >> 18) & 63]);
    out.push_back(kBase64Digits[(word >> 12) & 63]);
    out.push_back(have > 1 ? kBase64Digits[(word >> 6) & 63] : '=');
    out.push_back(have > 2 ? kBase64Digits[word & 63] : '=');
  }
  return out;
}

Result<Bytes> from_base64(std::string_view text) {
  static const std::array<int8_t, 256> kValues = base64_values();
  if (text.size() % 4 != 0) return Error(Code::kInvalidArgument, "base64 text of wrong length");
  size_t padding = 0;
  while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=') ++padding;
  Bytes out;
  out.reserve(text.size() / 4 * 3);
  for (size_t i = 0; i < text.size(); i += 4) {
    const size_t digits = i + 4 == text.size() ? 4 - padding : 4;
    uint32_t word = 0;
    for (size_t k = 0; k < 4; ++k) {
      const int8_t value = k < digits ? kValues[static_cast<uint8_t>(text[i + k])] : int8_t{0};
      if (value < 0) return Error(Code::kInvalidArgument, "not a base64 digit");
      word = (word << 6) | static_cast<uint32_t>(value);
    }
    // Bits that no byte uses are zero, so that there is one text for each value.
    if ((word & ((uint32_t{1} << (8 * (4 - digits))) - 1)) != 0)
      return Error(Code::kInvalidArgument, "base64 text with stray bits at its end");
    for (size_t k = 0; k + 1 < digits; ++k)
      out.push_back(static_cast<uint8_t>(word >> (16 - 8 * k)));
  }
  return out;
}

}  // namespace reclo
