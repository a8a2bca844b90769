#include "recovery/clone_marker.h"

#include <gtest/gtest.h>

#include "os/file.h"

namespace reclo::recovery {
namespace {

CloneMarker sample() {
  CloneMarker marker;
  marker.from_point = "00112233445566778899aabbccddeeff";
  marker.server = "files";
  marker.target = "qemu";
  marker.drill = true;
  marker.made = parse_time("2026-11-24T10:00:00Z").value();
  return marker;
}

void put(const std::string& root, const std::string& path, const std::string& text) {
  ASSERT_TRUE(os::make_directories(os::parent_path(root + path)).ok());
  ASSERT_TRUE(os::write_file_durably(root + path, as_bytes(text)).ok());
}

TEST(CloneMarker, SurvivesBeingWritten) {
  EXPECT_EQ(decode_clone_marker(encode_clone_marker(sample())).value(), sample());
}

TEST(CloneMarker, TheOneInUserDataIsUnderstood) {
  const auto marker = decode_clone_marker(
      R"({"reclo_clone":1,"server":"files","recovered_from":"00112233445566778899aabbccddeeff",)"
      R"("recovered_at":"2026-11-24T10:00:00Z","drill":true})");
  ASSERT_TRUE(marker.ok());
  EXPECT_EQ(marker->from_point, sample().from_point);
  EXPECT_TRUE(marker->drill);
}

TEST(CloneMarker, NonsenseIsRefused) {
  for (const char* text : {"", "[]", R"({"version":1})",
                           R"({"version":1,"from_point":"../x","server":"a","made":"now"})"})
    EXPECT_EQ(decode_clone_marker(text).error().code(), Code::kCorruption) << text;
  EXPECT_EQ(decode_clone_marker(R"({"version":9})").error().code(), Code::kUnsupported);
}

TEST(CloneMarker, IsFoundWhereFailoverLeavesIt) {
  for (const char* path :
       {"/etc/reclo/recovered.json", "/sys/firmware/qemu_fw_cfg/by_name/opt/reclo/recovered/raw"}) {
    const auto root = os::TempDir::create("reclo-marker").value();
    put(root.path(), "/etc/machine-id", "0123\n");
    EXPECT_FALSE(look_at_this_machine({root.path(), ""}).copy);
    put(root.path(), path, encode_clone_marker(sample()));
    const auto claim = look_at_this_machine({root.path(), ""});
    ASSERT_TRUE(claim.copy) << path;
    EXPECT_EQ(claim.copy->server, "files");
    EXPECT_EQ(claim.copy->point, sample().from_point);
    EXPECT_EQ(claim.hardware.machine_id, "0123");
    EXPECT_EQ(claim.hardware.product_uuid, "");
  }
}

TEST(CloneMarker, OneThatCannotBeReadStillCounts) {
  const auto root = os::TempDir::create("reclo-marker").value();
  put(root.path(), "/etc/reclo/recovered.json", "{");
  const auto claim = look_at_this_machine({root.path(), ""});
  ASSERT_TRUE(claim.copy);
  EXPECT_EQ(claim.copy->server, "");
  const auto other = os::TempDir::create("reclo-marker").value();
  put(other.path(), "/sys/firmware/dmi/entries/11-0/raw", "\x0b\x05 reclo-instance:0123 ");
  EXPECT_TRUE(look_at_this_machine({other.path(), ""}).copy);
}

}  // namespace
}  // namespace reclo::recovery
