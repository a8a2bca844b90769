#include "crypto/passphrase.h"

#include <sodium.h>

#include <cctype>

#include "base/units.h"
#include "crypto/hash.h"
#include "os/random.h"

namespace reclo::crypto {
namespace {

constexpr std::string_view kAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
constexpr size_t kSecretBytes = 20;  // 160 bits = 32 digits
constexpr size_t kSecretDigits = 32;
constexpr size_t kCheckDigits = 4;
constexpr size_t kDigits = kSecretDigits + kCheckDigits;

int digit_value(char c) {
  c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  if (c == 'O') c = '0';
  if (c == 'I' || c == 'L') c = '1';
  const size_t at = kAlphabet.find(c);
  return at == std::string_view::npos ? -1 : static_cast<int>(at);
}

std::string check_digits(ByteSpan secret) {
  Bytes message = to_bytes("reclo/1 recovery code check");
  message.insert(message.end(), secret.begin(), secret.end());
  const Sha256Digest digest = sha256(message);
  const uint32_t bits = (uint32_t{digest[0]} << 12) | (uint32_t{digest[1]} << 4) | (digest[2] >> 4);
  std::string out;
  for (int shift = 15; shift >= 0; shift -= 5) out.push_back(kAlphabet[(bits >> shift) & 31]);
  return out;
}

bool is_separator(char c) { return c == '-' || std::isspace(static_cast<unsigned char>(c)) != 0; }

}  // namespace

Argon2Parameters fresh_argon2_parameters() {
  Argon2Parameters parameters;
  os::fill_random(parameters.salt);
  return parameters;
}

Result<SecretKey> key_from_passphrase(std::string_view passphrase,
                                      const Argon2Parameters& parameters) {
  if (parameters.memory_bytes < 8 * kMiB || parameters.memory_bytes > 4 * kGiB ||
      parameters.passes < 1 || parameters.passes > 16)
    return Error(Code::kInvalidArgument,
                 "the key slot asks for Argon2 parameters outside the allowed range");
  RECLO_CHECK(sodium_init() >= 0);
  static_assert(crypto_pwhash_SALTBYTES == 16);
  std::array<uint8_t, SecretKey::kSize> out;
  if (crypto_pwhash(out.data(), out.size(), passphrase.data(), passphrase.size(),
                    parameters.salt.data(), parameters.passes, parameters.memory_bytes,
                    crypto_pwhash_ALG_ARGON2ID13) != 0)
    return Error(Code::kResourceExhausted,
                 "not enough memory to derive the key from the passphrase: " +
                     format_bytes(parameters.memory_bytes) + " are needed for a moment");
  SecretKey key = SecretKey::from_bytes(out);
  wipe(out);
  return key;
}

std::string make_recovery_code() {
  std::array<uint8_t, kSecretBytes> secret;
  os::fill_random(secret);
  std::string digits;
  uint32_t bits = 0;
  int count = 0;
  for (uint8_t byte : secret) {
    bits = (bits << 8) | byte;
    count += 8;
    while (count >= 5) {
      count -= 5;
      digits.push_back(kAlphabet[(bits >> count) & 31]);
    }
  }
  digits += check_digits(secret);
  std::string code;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && i % 4 == 0) code.push_back('-');
    code.push_back(digits[i]);
  }
  wipe(secret);
  return code;
}

Result<SecretKey> key_from_recovery_code(std::string_view code) {
  std::array<uint8_t, kSecretBytes> secret{};
  std::string check;
  size_t digits = 0;
  uint32_t bits = 0;
  int count = 0;
  size_t bytes = 0;
  for (char c : code) {
    if (is_separator(c)) continue;
    const int value = digit_value(c);
    if (value < 0)
      return Error(Code::kInvalidArgument,
                   "the recovery code has an impossible character in group " +
                       std::to_string(digits / 4 + 1));
    if (++digits > kDigits) break;
    if (digits > kSecretDigits) {
      check.push_back(kAlphabet[static_cast<size_t>(value)]);
      continue;
    }
    bits = (bits << 5) | static_cast<uint32_t>(value);
    count += 5;
    if (count >= 8) {
      count -= 8;
      secret[bytes++] = static_cast<uint8_t>(bits >> count);
    }
  }
  if (digits != kDigits)
    return Error(Code::kInvalidArgument,
                 "a recovery code has nine groups of four letters and digits");
  if (check != check_digits(secret))
    return Error(Code::kInvalidArgument,
                 "the recovery code is mistyped: its check group does not fit");
  Bytes padded(SecretKey::kSize, 0);
  std::memcpy(padded.data(), secret.data(), secret.size());
  const SecretKey raw = SecretKey::from_bytes(padded);
  wipe(padded);
  wipe(secret);
  return derive_key(raw, "reclo/1 recovery code", {});
}

bool looks_like_recovery_code(std::string_view text) {
  size_t digits = 0;
  for (char c : text) {
    if (is_separator(c)) continue;
    if (digit_value(c) < 0) return false;
    ++digits;
  }
  return digits == kDigits;
}

}  // namespace reclo::crypto
