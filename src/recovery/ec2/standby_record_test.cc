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
  standby.disks = {disk, StandbyDisk{1, 99, {}, std::nullopt, false, 0}};
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
  EXPECT_EQ(decode_standby(with("\"version\": 1", "\"version\": 2")).error().code(),
            Code::kUnsupported);
}

}  // namespace
}  // namespace reclo::recovery
