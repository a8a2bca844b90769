#include "repo/key_slots.h"

#include <gtest/gtest.h>

#include <set>

#include "base/json.h"
#include "os/random.h"
#include "repo/envelope.h"
#include "repo/layout.h"
#include "repo/repository.h"
#include "repo/test_repository.h"

namespace reclo::repo {
namespace {

using testing::must;
using testing::test_limit;

// Argon2 costs about a second and 256 MiB each time: one test goes through a repository's whole
// life with passphrases, the others use recovery codes.
TEST(KeySlots, PassphrasesAndCodesOverARepositorysLife) {
  store::MemoryStore store;
  const auto init =
      must(init_repository(store, "first words", {true, true, true, ""}, test_limit()));
  const Repository repository = must(Repository::open(store, test_limit()));
  EXPECT_EQ(repository.config().public_key, init.config.public_key);

  const auto wrong = repository.unlock("other words", test_limit());
  ASSERT_FALSE(wrong.ok());
  EXPECT_EQ(wrong.error().code(), Code::kUnauthenticated);
  EXPECT_EQ(wrong.error().message().find("other words"), std::string::npos);

  const crypto::BoxKeyPair by_code = must(repository.unlock(init.recovery_code, test_limit()));
  const crypto::BoxKeyPair by_words = must(repository.unlock("first words", test_limit()));
  EXPECT_EQ(to_hex(by_code.secret_key.bytes()), to_hex(by_words.secret_key.bytes()));

  auto slots = must(list_key_slots(store, repository.id(), nullptr, test_limit()));
  ASSERT_EQ(slots.size(), 2u);
  const bool first_is_code = slots[0].kind == SlotKind::kRecoveryCode;
  const KeySlot code_slot = slots[first_is_code ? 0 : 1];
  const KeySlot words_slot = slots[first_is_code ? 1 : 0];
  must(remove_key_slot(store, repository.id(), words_slot.name, test_limit()));
  EXPECT_EQ(repository.unlock("first words", test_limit()).error().code(), Code::kUnauthenticated);
  EXPECT_EQ(remove_key_slot(store, repository.id(), code_slot.name, test_limit()).error().code(),
            Code::kInvalidArgument);
  EXPECT_EQ(
      remove_key_slot(store, repository.id(), "0011223344556677", test_limit()).error().code(),
      Code::kNotFound);
}

struct CodeRepository {
  store::MemoryStore store;
  testing::TestRepository repository{store};
  std::string add_code(std::string_view label) {
    const std::string code = crypto::make_recovery_code();
    must(add_key_slot(store, repository.get().id(), repository.box().secret_key,
                      SlotKind::kRecoveryCode, label, code, test_limit()));
    return code;
  }
  std::vector<std::string> keys() {
    std::vector<std::string> out;
    must(store.list(
        layout::kKeySlotPrefix,
        [&](const store::ObjectInfo& info) -> Status {
          out.push_back(info.key);
          return {};
        },
        test_limit()));
    return out;
  }
  Bytes object(const std::string& key) { return must(store.get(key, kMiB, test_limit())); }
};

TEST(KeySlots, EveryCodeOpensItsOwnAndForgivesTyping) {
  CodeRepository world;
  const std::string second = world.add_code("safe");
  for (const std::string& code : {world.repository.code(), second})
    EXPECT_TRUE(world.repository.get().unlock(code, test_limit()).ok());
  std::string typed;
  for (const char c : second)
    typed.push_back(c == '-' ? ' '
                             : static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
  EXPECT_TRUE(world.repository.get().unlock(typed, test_limit()).ok());
  const auto slots =
      must(list_key_slots(world.store, world.repository.get().id(), nullptr, test_limit()));
  ASSERT_EQ(slots.size(), 2u);
  EXPECT_EQ((std::set<std::string>{slots[0].label, slots[1].label}),
            (std::set<std::string>{"printed", "safe"}));
  EXPECT_EQ(
      world.repository.get().unlock(crypto::make_recovery_code(), test_limit()).error().code(),
      Code::kUnauthenticated);
}

TEST(KeySlots, DamageIsReportedAndHidesNoOtherSlot) {
  CodeRepository world;
  world.add_code("second");
  const auto keys = world.keys();
  ASSERT_EQ(keys.size(), 2u);
  const RepositoryId id = world.repository.get().id();
  const auto problems_with = [&](const std::string& key, Bytes content) {
    const Bytes good = world.object(key);
    world.store.overwrite(key, std::move(content));
    std::vector<Error> problems;
    const auto slots = must(list_key_slots(world.store, id, &problems, test_limit()));
    EXPECT_EQ(slots.size() + problems.size(), 2u);
    world.store.overwrite(key, good);
    return problems;
  };
  ASSERT_EQ(problems_with(keys[0], to_bytes("garbage")).size(), 1u);
  EXPECT_EQ(problems_with(keys[0], Bytes(kMiB, 'x')).size(), 1u);
  // Another slot's object under this name.
  const auto swapped = problems_with(keys[0], world.object(keys[1]));
  ASSERT_EQ(swapped.size(), 1u);
  EXPECT_NE(swapped[0].message().find("swapped"), std::string::npos);
  Json json = must(parse_json(as_text(world.object(keys[0])), "x"));
  json["format"] = 2;
  const auto newer = problems_with(keys[0], to_bytes(json.dump()));
  ASSERT_EQ(newer.size(), 1u);
  EXPECT_EQ(newer[0].code(), Code::kUnsupported);
}

TEST(KeySlots, AnyChangeIsSeenByWhoHoldsTheKey) {
  CodeRepository world;
  const std::string key = world.keys()[0];
  const Bytes good = world.object(key);
  const crypto::SecretKey& secret = world.repository.box().secret_key;
  EXPECT_TRUE(verify_check(good, secret, key).ok());
  for (size_t i = 0; i < good.size(); ++i) {
    Bytes damaged = good;
    damaged[i] ^= 1;
    EXPECT_FALSE(verify_check(damaged, secret, key).ok()) << i;
  }
  EXPECT_FALSE(verify_check(good, crypto::SecretKey::random(), key).ok());
}

TEST(KeySlots, ASlotOfAnotherRepositoryDoesNotOpen) {
  CodeRepository one;
  CodeRepository two;
  const std::string key = two.keys()[0];
  one.store.overwrite(key, two.object(key));
  EXPECT_FALSE(one.repository.get().unlock(two.repository.code(), test_limit()).ok());
  EXPECT_TRUE(one.repository.get().unlock(one.repository.code(), test_limit()).ok());
}

TEST(KeySlots, HostileParametersDoNotExhaustTheMachine) {
  CodeRepository world;
  const std::string key = world.keys()[0];
  Json json = must(parse_json(as_text(world.object(key)), "x"));
  json["kind"] = "passphrase";
  json["argon2id"] = {
      {"memory_bytes", uint64_t{1} << 50}, {"passes", 1000000}, {"salt", to_base64(Bytes(16, 1))}};
  world.store.overwrite(key, to_bytes(json.dump()));
  const auto opened = world.repository.get().unlock("words", test_limit());
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code(), Code::kUnauthenticated);
  EXPECT_NE(opened.error().message().find("Argon2"), std::string::npos);
}

}  // namespace
}  // namespace reclo::repo
