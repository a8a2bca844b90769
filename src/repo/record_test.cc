#include "repo/record.h"

#include <gtest/gtest.h>

#include "crypto/hash.h"
#include "os/random.h"
#include "repo/config.h"
#include "repo/envelope.h"
#include "repo/test_repository.h"

namespace reclo::repo {
namespace {

using testing::must;

struct Signed {
  RepositoryId repository = os::random_id<RepositoryId>();
  crypto::SigningKeyPair signer = crypto::make_signing_key_pair();
};

PointRecord sample_point() {
  PointRecord record;
  record.machine = os::random_id<MachineId>();
  record.id = os::random_id<PointId>();
  record.server = "praxis-süd";
  record.sequence = 7;
  record.previous = os::random_id<PointId>();
  record.previous_digest = to_hex(crypto::sha256(as_bytes("x")));
  record.started = must(parse_time("2026-11-23T07:05:09.120Z"));
  record.taken = must(parse_time("2026-11-23T07:05:10.000Z"));
  record.finished = must(parse_time("2026-11-23T07:06:00.999Z"));
  record.kind = PointKind::kIncremental;
  record.consistency = Consistency::kFileSystem;
  record.program_version = "0.1.0";
  DiskRecord disk;
  disk.name = "/dev/vda";
  disk.format = "block";
  disk.size_bytes = 5 * kGiB + 512;
  disk.map_height = map_height(disk.size_bytes);
  disk.map_root = NodeRef{os::random_id<ChunkId>(), {{os::random_id<SessionId>(), 9}, 3, 512, 777}};
  disk.allocated_bytes = 1;
  disk.read_bytes = 2;
  disk.new_bytes = 3;
  DiskRecord empty;
  empty.name = "/dev/vdb";
  empty.format = "raw";
  empty.size_bytes = 1;
  record.disks = {disk, empty};
  record.statistics = {1, 2, 3, 4, 5, {{"reading", 10}, {"uploading", 20}}, "uploading"};
  return record;
}

TEST(Record, PointComesBackWhole) {
  const Signed keys;
  const PointRecord record = sample_point();
  const Bytes object = encode_point(record, keys.repository, keys.signer);
  const auto decoded =
      must(decode_end(object, keys.repository, keys.signer.public_key, "the point"));
  ASSERT_TRUE(decoded.has_value());
  EXPECT_EQ(decoded->machine, record.machine);
  EXPECT_EQ(decoded->id, record.id);
  EXPECT_EQ(decoded->server, record.server);
  EXPECT_EQ(decoded->sequence, record.sequence);
  EXPECT_EQ(decoded->previous, record.previous);
  EXPECT_EQ(decoded->previous_digest, record.previous_digest);
  EXPECT_EQ(decoded->started, record.started);
  EXPECT_EQ(decoded->taken, record.taken);
  EXPECT_EQ(decoded->finished, record.finished);
  EXPECT_EQ(decoded->kind, record.kind);
  EXPECT_EQ(decoded->consistency, record.consistency);
  EXPECT_EQ(decoded->program_version, record.program_version);
  ASSERT_EQ(decoded->disks.size(), 2u);
  EXPECT_EQ(decoded->disks[0].name, "/dev/vda");
  EXPECT_EQ(decoded->disks[0].size_bytes, record.disks[0].size_bytes);
  EXPECT_EQ(decoded->disks[0].map_root, record.disks[0].map_root);
  EXPECT_EQ(decoded->disks[0].new_bytes, 3u);
  EXPECT_FALSE(decoded->disks[1].map_root.has_value());
  EXPECT_EQ(decoded->statistics.slowest_stage, "uploading");
  EXPECT_EQ(decoded->statistics.stages.size(), 2u);
  // Encoding again gives the same bytes: the digest of a point is stable.
  EXPECT_EQ(encode_point(*decoded, keys.repository, keys.signer), object);
}

TEST(Record, PathsThatAreNotUtf8DoNotHurt) {
  const Signed keys;
  PointRecord record = sample_point();
  record.disks[0].name = "/srv/\xff\xfe.img";
  const Bytes object = encode_point(record, keys.repository, keys.signer);
  const auto decoded =
      must(decode_end(object, keys.repository, keys.signer.public_key, "the point"));
  EXPECT_NE(decoded->disks[0].name.find(".img"), std::string::npos);
}

TEST(Record, OtherSignerOtherRepositoryOtherBytesAreRefused) {
  const Signed keys;
  const Signed others;
  const Bytes object = encode_point(sample_point(), keys.repository, keys.signer);
  const auto code = [&](ByteSpan bytes, const RepositoryId& repository,
                        const crypto::PublicKey& signer) {
    return decode_end(bytes, repository, signer, "the point").error().code();
  };
  EXPECT_EQ(code(object, keys.repository, others.signer.public_key), Code::kCorruption);
  EXPECT_EQ(code(object, others.repository, keys.signer.public_key), Code::kCorruption);
  for (size_t i = 0; i < object.size(); ++i) {
    Bytes damaged = object;
    damaged[i] ^= 1;
    EXPECT_FALSE(decode_end(damaged, keys.repository, keys.signer.public_key, "p").ok()) << i;
  }
  for (size_t size = 0; size < object.size(); size += 7)
    EXPECT_FALSE(
        decode_end(ByteSpan(object).first(size), keys.repository, keys.signer.public_key, "p")
            .ok());
}

TEST(Record, FencedAndClosedAreNoPoints) {
  const Signed keys;
  for (const Bytes& end : {fenced_end(), closed_end()})
    EXPECT_FALSE(must(decode_end(end, keys.repository, keys.signer.public_key, "end")).has_value());
}

// Signed as it should be, but saying what it must not.
Result<std::optional<PointRecord>> decode_changed(const std::function<void(Json&)>& change) {
  const Signed keys;
  const Bytes object = encode_point(sample_point(), keys.repository, keys.signer);
  Envelope envelope = must(open_envelope(object, "x"));
  change(envelope.payload);
  return decode_end(make_envelope(envelope.payload, &keys.signer), keys.repository,
                    keys.signer.public_key, "the point");
}

TEST(Record, NewerFormatsAskForAnUpgrade) {
  const auto newer = decode_changed([](Json& json) { json["format"] = 2; });
  ASSERT_FALSE(newer.ok());
  EXPECT_EQ(newer.error().code(), Code::kUnsupported);
  EXPECT_NE(newer.error().message().find("upgrade"), std::string::npos);
  // Also when the rest of it is not understood at all.
  const auto alien = decode_changed([](Json& json) { json = {{"format", 9}}; });
  EXPECT_EQ(alien.error().code(), Code::kUnsupported);
}

TEST(Record, BoundsHold) {
  EXPECT_TRUE(decode_changed([](Json&) {}).ok());
  const std::vector<std::function<void(Json&)>> changes = {
      [](Json& json) { json["disks"] = Json::array(); },
      [](Json& json) { json["disks"] = "none"; },
      [](Json& json) { json["disks"][0] = 5; },
      [](Json& json) { json["disks"][0]["size_bytes"] = 0; },
      [](Json& json) { json["disks"][0]["size_bytes"] = -1; },
      [](Json& json) { json["disks"][0]["size_bytes"] = kDiskSizeBytesMax + 1; },
      [](Json& json) { json["disks"][0]["map_height"] = 0; },
      [](Json& json) { json["disks"][0]["map_height"] = 300; },
      [](Json& json) { json["disks"][0]["map_root"] = 7; },
      [](Json& json) { json["disks"][0]["map_root"]["slot"] = 70000; },
      [](Json& json) { json["disks"][0]["map_root"]["stored"] = 0; },
      [](Json& json) { json["disks"][0]["map_root"]["offset"] = kPackSizeBytesMax; },
      [](Json& json) { json["disks"][0]["map_root"]["id"] = "abc"; },
      [](Json& json) { json["disks"] = Json(std::vector<Json>(65, json["disks"][1])); },
      [](Json& json) { json["taken"] = "yesterday"; },
      [](Json& json) { json["consistency"] = "perfect"; },
      [](Json& json) { json["sequence"] = 1.5; },
      [](Json& json) { json.erase("session"); },
      [](Json& json) { json["statistics"]["stages"] = 1; },
      [](Json& json) { json = Json::array(); },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    const auto decoded = decode_changed(changes[i]);
    ASSERT_FALSE(decoded.ok()) << "change " << i;
    EXPECT_EQ(decoded.error().code(), Code::kCorruption) << "change " << i;
  }
}

TEST(Record, BeginComesBackWhole) {
  const Signed keys;
  BeginRecord record;
  record.machine = os::random_id<MachineId>();
  record.session = os::random_id<SessionId>();
  record.started = wall_now();
  record.pins = {os::random_id<PointId>(), os::random_id<PointId>()};
  const Bytes object = encode_begin(record, keys.repository, &keys.signer);
  const BeginRecord back = must(decode_begin(object, keys.repository, "begin"));
  EXPECT_EQ(back.kind, SessionKind::kBackup);
  EXPECT_EQ(back.machine, record.machine);
  EXPECT_EQ(back.session, record.session);
  EXPECT_EQ(back.started, record.started);
  EXPECT_EQ(back.pins, record.pins);
  EXPECT_FALSE(decode_begin(object, os::random_id<RepositoryId>(), "begin").ok());
  record.kind = SessionKind::kReader;
  const Bytes pin = encode_begin(record, keys.repository, nullptr);
  EXPECT_EQ(must(decode_begin(pin, keys.repository, "begin")).kind, SessionKind::kReader);
  EXPECT_TRUE(must(open_envelope(pin, "begin")).signature.empty());
}

TEST(Config, ComesBackAndRefusesNewerFormats) {
  const crypto::BoxKeyPair box = crypto::make_box_key_pair();
  RepositoryConfig config;
  config.id = os::random_id<RepositoryId>();
  config.created = wall_now();
  config.public_key = box.public_key;
  config.store = {true, false, true, "no lists after puts"};
  const Bytes object = encode_config(config, box.secret_key);
  const RepositoryConfig back = must(decode_config(object));
  EXPECT_EQ(back.id, config.id);
  EXPECT_EQ(back.created, config.created);
  EXPECT_EQ(back.public_key, config.public_key);
  EXPECT_EQ(back.store.note, config.store.note);
  EXPECT_FALSE(back.store.safe());
  EXPECT_TRUE(verify_check(object, box.secret_key, "reclo.json").ok());
  for (size_t i = 0; i < object.size(); ++i) {
    Bytes damaged = object;
    damaged[i] ^= 1;
    EXPECT_FALSE(verify_check(damaged, box.secret_key, "reclo.json").ok()) << i;
  }
  Json json = must(parse_json(as_text(object), "x"));
  json["format"] = 2;
  EXPECT_EQ(decode_config(to_bytes(json.dump())).error().code(), Code::kUnsupported);
  EXPECT_EQ(decode_config(as_bytes("{\"format\": 2}")).error().code(), Code::kUnsupported);
  EXPECT_EQ(decode_config(as_bytes("hello")).error().code(), Code::kCorruption);
}

}  // namespace
}  // namespace reclo::repo
