#include "recovery/failback/failback_record.h"

#include <gtest/gtest.h>

#include <regex>

namespace reclo::recovery {
namespace {

FailbackRecord sample() {
  FailbackRecord record;
  record.id = "0123456789ab";
  record.server = "front desk";
  record.source = "ec2";
  record.instance = "i-0a";
  record.region = "eu-central-1";
  record.repository = RepositoryId::parse("00112233445566778899aabbccddeeff").value();
  record.machine = MachineId::parse("10112233445566778899aabbccddeeff").value();
  record.point = PointId::parse("ffeeddccbbaa99887766554433221100").value();
  record.state = FailbackState::kStopped;
  record.round = 2;
  record.last_round = 2;
  record.started_at = parse_time("2026-11-23T07:05:09.120Z").value();
  FailbackDisk disk;
  disk.size_bytes = 12345;
  disk.target = "/dev/sdz";
  disk.target_identity = "device 8:16";
  disk.base_restored = true;
  disk.volume = cloud::VolumeId::parse("vol-01").value();
  disk.held = cloud::SnapshotId::parse("snap-0a").value();
  disk.extra_blocks = {{3, 7}, {9, 10}};
  disk.pending = cloud::SnapshotId::parse("snap-0b").value();
  disk.pending_created_ms = 99;
  record.disks = {disk};
  record.rounds = {{1, 0, 1000, 1000, 2000, 8000, 0}, {2, 0, 100, 100, 2000, 1000, 60'000}};
  record.leftovers = {cloud::SnapshotId::parse("snap-09").value()};
  return record;
}

TEST(FailbackRecord, SurvivesBeingWritten) {
  EXPECT_EQ(decode_failback(encode_failback(sample())).value(), sample());
}

TEST(FailbackRecord, NonsenseIsRefused) {
  const std::string good = encode_failback(sample());
  for (const auto& [what, with] : {std::pair{R"("id": "[0-9a-f]*")", R"("id": "../../etc")"},
                                   {R"("source": "ec2")", R"("source": "moon")"},
                                   {R"("state": "stopped")", R"("state": "lost")"},
                                   {R"("target": "/dev/sdz")", R"("target": "")"},
                                   {R"("held": "snap-0a")", R"("held": "snap-/../x")"},
                                   {R"("disk": 0)", R"("disk": 7)"},
                                   {R"("index": 0)", R"("index": 1)"}}) {
    const std::string bad = std::regex_replace(good, std::regex(what), with);
    ASSERT_NE(bad, good) << what;
    const auto record = decode_failback(bad);
    ASSERT_FALSE(record.ok()) << with;
    EXPECT_EQ(record.error().code(), Code::kCorruption) << with;
  }
  EXPECT_EQ(decode_failback("{").error().code(), Code::kCorruption);
  EXPECT_EQ(decode_failback(R"({"version":9})").error().code(), Code::kUnsupported);
}

// 100 blocks changed in a minute; the round took three seconds, in which five more change.
TEST(FailbackRecord, ForecastsACutoverByWhatWasMeasured) {
  const auto forecast = forecast_cutover(sample());
  ASSERT_TRUE(forecast);
  EXPECT_NEAR(forecast->blocks, 5, 1e-9);
  EXPECT_NEAR(forecast->seconds, 2 + 0.05, 1e-9);
  FailbackRecord first = sample();
  first.round = 1;
  EXPECT_FALSE(forecast_cutover(first));
}

}  // namespace
}  // namespace reclo::recovery
