// From what people remember or print to keys: Argon2id for passphrases, and recovery codes.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "crypto/secret.h"

namespace reclo::crypto {

/// Stored beside each passphrase slot, so that a later version may ask for more.
struct Argon2Parameters {
  uint64_t memory_bytes = uint64_t{256} << 20;
  uint64_t passes = 3;
  std::array<uint8_t, 16> salt{};
};
Argon2Parameters fresh_argon2_parameters();

/// Argon2id (RFC 9106), one lane, to 32 bytes. Costs about a second and `memory_bytes`.
/// Errors: kInvalidArgument for parameters outside 8 MiB … 4 GiB and 1 … 16 passes (a hostile slot
/// must not exhaust the machine), kResourceExhausted without memory.
Result<SecretKey> key_from_passphrase(std::string_view passphrase,
                                      const Argon2Parameters& parameters);

/// A recovery code: 160 random bits and 20 check bits as nine groups of four letters and digits
/// (Crockford's base 32: no I, L, O, U), "ABCD-EFGH-…". Reading forgives case, spaces and the usual
/// confusions (O for 0, I or L for 1).
std::string make_recovery_code();
/// The key that a code stands for. Errors: kInvalidArgument with which group looks mistyped.
Result<SecretKey> key_from_recovery_code(std::string_view code);
/// Whether `text` has the shape of a recovery code (36 digits of the alphabet, dashes and spaces
/// aside): where either may be typed, this tells which it is.
bool looks_like_recovery_code(std::string_view text);

}  // namespace reclo::crypto
