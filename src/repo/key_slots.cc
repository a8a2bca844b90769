#include "repo/key_slots.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/limits.h"
#include "crypto/aead.h"
#include "crypto/hash.h"
#include "crypto/passphrase.h"
#include "os/random.h"
#include "repo/envelope.h"
#include "repo/layout.h"

namespace reclo::repo {
namespace {

constexpr size_t kSlotSizeBytesMax = 64 * kKiB;
constexpr size_t kSlotsMax = 1000;
constexpr size_t kWrappedSize = crypto::SecretKey::kSize + crypto::kAeadTagSize;

struct StoredSlot {
  KeySlot slot;
  crypto::Argon2Parameters argon2;
  Bytes wrapped;
};

// The wrapping key is bound to repository and slot, so that a slot cannot be moved elsewhere.
crypto::SecretKey wrapping_key(const crypto::SecretKey& from_words, const RepositoryId& repository,
                               std::string_view slot) {
  Bytes context = to_bytes(repository.bytes());
  context.insert(context.end(), slot.begin(), slot.end());
  return crypto::derive_key(from_words, "reclo/1 key slot", context);
}

Result<crypto::SecretKey> key_from_words(SlotKind kind, std::string_view words,
                                         const crypto::Argon2Parameters& argon2) {
  return kind == SlotKind::kPassphrase ? crypto::key_from_passphrase(words, argon2)
                                       : crypto::key_from_recovery_code(words);
}

Bytes encode_slot(const StoredSlot& stored, const RepositoryId& repository,
                  const crypto::SecretKey& secret) {
  Json json;
  json["format"] = kFormatVersion;
  json["repository"] = repository.hex();
  json["slot"] = stored.slot.name;
  json["kind"] = stored.slot.kind == SlotKind::kPassphrase ? "passphrase" : "recovery-code";
  json["label"] = stored.slot.label;
  json["created"] = format_time(stored.slot.created);
  if (stored.slot.kind == SlotKind::kPassphrase)
    json["argon2id"] = {{"memory_bytes", stored.argon2.memory_bytes},
                        {"passes", stored.argon2.passes},
                        {"salt", to_base64(stored.argon2.salt)}};
  json["wrapped_key"] = to_base64(stored.wrapped);
  add_check(json, secret);
  return to_bytes(dump_json(json, 2) + "\n");
}

Result<StoredSlot> decode_slot(ByteSpan object, const RepositoryId& repository,
                               std::string_view key) {
  RECLO_ASSIGN_OR_RETURN(const Json json, parse_json(as_text(object), key, kSlotSizeBytesMax));
  RECLO_TRY(check_record_header(json, repository, key));
  StoredSlot stored;
  RECLO_ASSIGN_OR_RETURN_WITH(stored.slot.name, json_get<std::string>(json, "slot"), key);
  // Else removing a slot by the name it shows could remove another one.
  if (key != layout::key_slot(stored.slot.name))
    return Error(Code::kCorruption, fmt::format("{} is the key slot '{}': objects were swapped",
                                                key, stored.slot.name));
  RECLO_ASSIGN_OR_RETURN_WITH(const std::string kind, json_get<std::string>(json, "kind"), key);
  if (kind != "passphrase" && kind != "recovery-code")
    return Error(Code::kUnsupported, fmt::format("{}: unknown kind of key slot '{}'", key, kind));
  stored.slot.kind = kind == "passphrase" ? SlotKind::kPassphrase : SlotKind::kRecoveryCode;
  RECLO_ASSIGN_OR_RETURN_WITH(stored.slot.label, json_get_or<std::string>(json, "label", ""), key);
  RECLO_ASSIGN_OR_RETURN_WITH(stored.slot.created, json_time(json, "created"), key);
  if (stored.slot.kind == SlotKind::kPassphrase) {
    RECLO_ASSIGN_OR_RETURN_WITH(const Json* argon2, json_object(json, "argon2id"), key);
    RECLO_ASSIGN_OR_RETURN_WITH(stored.argon2.memory_bytes,
                                json_get<uint64_t>(*argon2, "memory_bytes"), key);
    RECLO_ASSIGN_OR_RETURN_WITH(stored.argon2.passes, json_get<uint64_t>(*argon2, "passes"), key);
    RECLO_ASSIGN_OR_RETURN_WITH(const Bytes salt,
                                json_base64(*argon2, "salt", stored.argon2.salt.size()), key);
    std::copy(salt.begin(), salt.end(), stored.argon2.salt.begin());
  }
  RECLO_ASSIGN_OR_RETURN_WITH(stored.wrapped, json_base64(json, "wrapped_key", kWrappedSize), key);
  return stored;
}

Result<std::vector<StoredSlot>> load_slots(store::ObjectStore& store,
                                           const RepositoryId& repository,
                                           std::vector<Error>* problems,
                                           const CancelToken& cancel) {
  std::vector<std::string> keys;
  RECLO_TRY(store.list(
      layout::kKeySlotPrefix,
      [&](const store::ObjectInfo& info) -> Status {
        if (info.key.ends_with(".json")) keys.push_back(info.key);
        if (keys.size() > kSlotsMax)
          return Error(Code::kResourceExhausted, "more key slots than this version handles");
        return {};
      },
      cancel));
  std::vector<StoredSlot> slots;
  for (const std::string& key : keys) {
    const auto object = store.get(key, kSlotSizeBytesMax, cancel);
    // One that is far too long is damaged, and removed meanwhile is no slot; neither hides the
    // rest.
    if (!object.ok() && object.error().code() == Code::kNotFound) continue;
    if (!object.ok() && object.error().code() != Code::kResourceExhausted) return object.error();
    auto slot =
        object.ok() ? decode_slot(*object, repository, key) : Result<StoredSlot>(object.error());
    if (slot.ok()) {
      slots.push_back(std::move(slot).value());
    } else if (problems != nullptr) {
      problems->push_back(slot.error());
    }
  }
  std::sort(slots.begin(), slots.end(), [](const StoredSlot& a, const StoredSlot& b) {
    return a.slot.created < b.slot.created;
  });
  return slots;
}

}  // namespace

Result<KeySlot> add_key_slot(store::ObjectStore& store, const RepositoryId& repository,
                             const crypto::SecretKey& secret, SlotKind kind, std::string_view label,
                             std::string_view words, const CancelToken& cancel) {
  StoredSlot stored;
  uint8_t name[8];
  os::fill_random(name);
  stored.slot = {to_hex(name), kind, std::string(label), wall_now()};
  stored.argon2 = crypto::fresh_argon2_parameters();
  RECLO_ASSIGN_OR_RETURN(const crypto::SecretKey from_words,
                         key_from_words(kind, words, stored.argon2));
  crypto::Aead aead(wrapping_key(from_words, repository, stored.slot.name));
  stored.wrapped.resize(kWrappedSize);
  aead.seal(0, {}, secret.bytes(), stored.wrapped);
  RECLO_TRY_WITH(store.put_if_absent(layout::key_slot(stored.slot.name),
                                     encode_slot(stored, repository, secret), cancel),
                 "storing the key slot");
  return stored.slot;
}

Result<std::vector<KeySlot>> list_key_slots(store::ObjectStore& store,
                                            const RepositoryId& repository,
                                            std::vector<Error>* problems,
                                            const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const std::vector<StoredSlot> stored,
                         load_slots(store, repository, problems, cancel));
  std::vector<KeySlot> slots;
  for (const StoredSlot& entry : stored) slots.push_back(entry.slot);
  return slots;
}

Status check_key_slot(ByteSpan object, const RepositoryId& repository, std::string_view key) {
  RECLO_TRY(decode_slot(object, repository, key));
  return {};
}

Result<crypto::BoxKeyPair> unlock_key(store::ObjectStore& store, const RepositoryId& repository,
                                      const crypto::PublicKey& public_key, std::string_view words,
                                      const CancelToken& cancel) {
  std::vector<Error> problems;
  RECLO_ASSIGN_OR_RETURN(const std::vector<StoredSlot> slots,
                         load_slots(store, repository, &problems, cancel));
  // A passphrase may happen to look like a code, so codes are tried first and passphrases always.
  const bool maybe_code = crypto::looks_like_recovery_code(words);
  for (const SlotKind kind : {SlotKind::kRecoveryCode, SlotKind::kPassphrase}) {
    if (kind == SlotKind::kRecoveryCode && !maybe_code) continue;
    for (const StoredSlot& entry : slots) {
      if (entry.slot.kind != kind) continue;
      RECLO_TRY(cancel.check());
      const auto from_words = key_from_words(kind, words, entry.argon2);
      if (!from_words.ok()) {
        if (kind == SlotKind::kPassphrase) problems.push_back(from_words.error());
        continue;
      }
      crypto::Aead aead(wrapping_key(*from_words, repository, entry.slot.name));
      Bytes plain(crypto::SecretKey::kSize);
      if (!aead.open(0, {}, entry.wrapped, plain).ok()) continue;
      crypto::BoxKeyPair keys;
      keys.secret_key = crypto::SecretKey::from_bytes(plain);
      crypto::wipe(plain);
      keys.public_key = crypto::box_public_key(keys.secret_key);
      if (keys.public_key != public_key)
        return Error(
            Code::kCorruption,
            "the unlocked key does not belong to this repository's public key: reclo.json or " +
                layout::key_slot(entry.slot.name) + " was exchanged");
      return keys;
    }
  }
  std::string message = "no key slot opens with this passphrase or recovery code";
  if (!problems.empty()) message += " (and: " + problems.front().message() + ")";
  return Error(Code::kUnauthenticated, message);
}

Status remove_key_slot(store::ObjectStore& store, const RepositoryId& repository,
                       std::string_view name, const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const std::vector<StoredSlot> slots,
                         load_slots(store, repository, nullptr, cancel));
  const auto found = std::find_if(slots.begin(), slots.end(),
                                  [&](const StoredSlot& entry) { return entry.slot.name == name; });
  if (found == slots.end())
    return Error(Code::kNotFound, fmt::format("there is no key slot '{}'", name));
  if (slots.size() == 1)
    return Error(
        Code::kInvalidArgument,
        "this is the last key slot: without it nobody could ever restore. Add another first.");
  return store.remove(layout::key_slot(name), cancel);
}

}  // namespace reclo::repo
