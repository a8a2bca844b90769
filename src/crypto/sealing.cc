#include "crypto/sealing.h"

#include <sodium.h>

namespace reclo::crypto {

BoxKeyPair make_box_key_pair() {
  BoxKeyPair keys;
  keys.secret_key = SecretKey::random();
  keys.public_key = box_public_key(keys.secret_key);
  return keys;
}

PublicKey box_public_key(const SecretKey& secret_key) {
  PublicKey out;
  RECLO_CHECK(crypto_scalarmult_base(out.data(), secret_key.bytes().data()) == 0);
  return out;
}

Bytes seal_to(const PublicKey& recipient, ByteSpan secret) {
  Bytes out(secret.size() + crypto_box_SEALBYTES);
  RECLO_CHECK(crypto_box_seal(out.data(), secret.data(), secret.size(), recipient.data()) == 0);
  return out;
}

Result<SecretKey> open_sealed_key(const BoxKeyPair& keys, ByteSpan sealed) {
  if (sealed.size() != SecretKey::kSize + crypto_box_SEALBYTES)
    return Error(Code::kCorruption, "a sealed key has the wrong size");
  std::array<uint8_t, SecretKey::kSize> plain;
  if (crypto_box_seal_open(plain.data(), sealed.data(), sealed.size(), keys.public_key.data(),
                           keys.secret_key.bytes().data()) != 0)
    return Error(Code::kCorruption, "a sealed key cannot be opened with this repository's key");
  SecretKey key = SecretKey::from_bytes(plain);
  wipe(plain);
  return key;
}

SigningKeyPair make_signing_key_pair() { return signing_key_pair_from_seed(SecretKey::random()); }

SigningKeyPair signing_key_pair_from_seed(SecretKey seed) {
  SigningKeyPair keys;
  std::array<uint8_t, crypto_sign_SECRETKEYBYTES> expanded;
  RECLO_CHECK(
      crypto_sign_seed_keypair(keys.public_key.data(), expanded.data(), seed.bytes().data()) == 0);
  wipe(expanded);
  keys.seed = std::move(seed);
  return keys;
}

Signature sign(const SigningKeyPair& keys, ByteSpan message) {
  PublicKey public_key;
  std::array<uint8_t, crypto_sign_SECRETKEYBYTES> expanded;
  RECLO_CHECK(
      crypto_sign_seed_keypair(public_key.data(), expanded.data(), keys.seed.bytes().data()) == 0);
  Signature out;
  RECLO_CHECK(crypto_sign_detached(out.data(), nullptr, message.data(), message.size(),
                                   expanded.data()) == 0);
  wipe(expanded);
  return out;
}

bool verify_signature(const PublicKey& signer, ByteSpan message, ByteSpan signature) {
  return signature.size() == crypto_sign_BYTES &&
         crypto_sign_verify_detached(signature.data(), message.data(), message.size(),
                                     signer.data()) == 0;
}

}  // namespace reclo::crypto
