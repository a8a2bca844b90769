// Public-key sealing (X25519 sealed boxes) and signing (Ed25519), both libsodium's.
// A server seals its session key to the repository's public key and can never open it again.
#pragma once

#include <array>

#include "base/bytes.h"
#include "base/result.h"
#include "crypto/secret.h"

namespace reclo::crypto {

using PublicKey = std::array<uint8_t, 32>;
using Signature = std::array<uint8_t, 64>;

struct BoxKeyPair {
  PublicKey public_key{};
  SecretKey secret_key;
};
BoxKeyPair make_box_key_pair();
PublicKey box_public_key(const SecretKey& secret_key);

/// crypto_box_seal: `secret` becomes 48 bytes longer.
Bytes seal_to(const PublicKey& recipient, ByteSpan secret);
/// Opens a sealed 32-byte key. Errors: kCorruption when it was not sealed to this key pair.
Result<SecretKey> open_sealed_key(const BoxKeyPair& keys, ByteSpan sealed);

struct SigningKeyPair {
  PublicKey public_key{};
  SecretKey seed;
};
SigningKeyPair make_signing_key_pair();
SigningKeyPair signing_key_pair_from_seed(SecretKey seed);
Signature sign(const SigningKeyPair& keys, ByteSpan message);
bool verify_signature(const PublicKey& signer, ByteSpan message, ByteSpan signature);

}  // namespace reclo::crypto
