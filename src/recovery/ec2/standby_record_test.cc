#include "recovery/ec2/standby_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace reclo::recovery {
namespace {

using ::testing::HasSubstr;

StandbyRecord sample() {
  StandbyRecord record;
  record.server = "front desk";
  record.machine = MachineId::parse("00112233445566778899aabbccddeeff").value();
  record.region = "eu-central-1";
  record.keeper = "0123";
  record.attempts = 7;
  Standby standby;
  standby.point = PointId::parse("ffeeddccbbaa99887766554433221100").value();
  standby.point_time = parse_time("2026-11-23T07:05:09.120Z").value();
  standby.attempt = 6;
  standby.boot_mode = cloud::BootMode::kUefi;
  standby.image = cloud::ImageId::parse("ami-0b").value();
  StandbyDisk disk;
  disk.size_bytes = 12345;
  disk.snapshot = cloud::SnapshotId::parse("snap-0a").value();
  disk.parent = cloud::SnapshotId::parse("snap-09").value();
  disk.completed = true;
  disk.blocks_put = 3;
  disk.overlay_spans = {{1, 3}, {7, 8}};
  standby.overlay = "0a0b";
  standby.disks = {disk, StandbyDisk{1, 99, {}, std::nullopt, false, 0, {}}};
  record.current = standby;
  standby.image = {};
  record.pending = standby;
  record.old = {standby, standby};
  return record;
}

TEST(StandbyRecordTest, RoundTrips) {
  EXPECT_EQ(decode_standby(encode_standby(sample())).value(), sample());
  StandbyRecord empty;
  empty.region = "r";
  EXPECT_EQ(decode_standby(encode_standby(empty)).value(), empty);
}

TEST(StandbyRecordTest, TheFirstVersionHadNoOverlays) {
  const auto old = decode_standby(
      R"({"version":1,"server":"s","machine":"00112233445566778899aabbccddeeff","region":"r",
          "keeper":"k","attempts":1,"pending":null,"old":[],
          "current":{"point":"ffeeddccbbaa99887766554433221100",
                     "point_time":"2026-11-23T07:05:09.120Z","attempt":1,"boot_mode":"bios",
                     "image":"ami-1","refreshed_at":"2026-11-23T07:05:09.120Z","duration_ms":5,
                     "disks":[{"index":0,"size_bytes":9,"snapshot":"snap-1","parent":null,
                               "completed":true,"blocks_put":1}]}})");
  ASSERT_TRUE(old.ok()) << old.error().message();
  EXPECT_EQ(old->current->overlay, "");
  EXPECT_TRUE(old->current->disks.at(0).overlay_spans.empty());
}

TEST(StandbyRecordTest, NothingInItIsTakenOnTrust) {
  const std::string whole = encode_standby(sample());
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = whole;
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  };
  for (const std::string& text :
       {std::string(), std::string("{}"), with("snap-0a", "snap-0a/../x"),
        with("ami-0b", "snap-0b"), with("\"uefi\"", "\"pxe\""), with("00112233", "x0112233"),
        with("12345", "-1"), with("2026-11-23T", "2026-11-99T"), whole.substr(0, whole.size() / 2)})
    EXPECT_EQ(decode_standby(text).error().code(), Code::kCorruption) << text;
  EXPECT_EQ(decode_standby(with("\"version\": 2", "\"version\": 3")).error().code(),
            Code::kUnsupported);
}

}  // namespace
}  // namespace reclo::recovery
