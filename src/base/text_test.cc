// Encodings, units, times, JSON: everything in base that turns text into values.
#include <gtest/gtest.h>

#include "base/encoding.h"
#include "base/ids.h"
#include "base/json.h"
#include "base/time.h"
#include "base/units.h"

namespace reclo {
namespace {

TEST(EncodingTest, Base64MatchesRfc4648Vectors) {
  const std::pair<const char*, const char*> vectors[] = {{"", ""},
                                                         {"f", "Zg=="},
                                                         {"fo", "Zm8="},
                                                         {"foo", "Zm9v"},
                                                         {"foob", "Zm9vYg=="},
                                                         {"fooba", "Zm9vYmE="},
                                                         {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, text] : vectors) {
    EXPECT_EQ(to_base64(as_bytes(plain)), text);
    EXPECT_EQ(as_text(from_base64(text).value()), plain);
  }
  for (const char* bad : {"Z", "Zg=", "Zg==Zg==", "Z g=", "====", "Zm9v\n"})
    EXPECT_FALSE(from_base64(bad).ok()) << bad;
}

TEST(EncodingTest, HexRefusesWhatIsNotHex) {
  EXPECT_EQ(to_hex(as_bytes("\x01\xfe")), "01fe");
  EXPECT_FALSE(from_hex("0").ok());
  EXPECT_FALSE(from_hex("0g").ok());
  EXPECT_FALSE(SessionId::parse("abcd").ok());
}

TEST(UnitsTest, ParsesWhatPeopleWrite) {
  EXPECT_EQ(parse_size_bytes("10GiB").value(), 10 * kGiB);
  EXPECT_EQ(parse_size_bytes("512m").value(), 512 * kMiB);
  EXPECT_EQ(parse_size_bytes("4096").value(), 4096u);
  for (const char* bad : {"", "-1", "5x", "99999999999T", "1.5G"})
    EXPECT_FALSE(parse_size_bytes(bad).ok()) << bad;
  EXPECT_EQ(format_bytes(1536), "1.50 KiB");
}

TEST(UnitsTest, ParsesDurations) {
  EXPECT_EQ(parse_duration("90s").value(), std::chrono::seconds(90));
  EXPECT_EQ(parse_duration("45m").value(), std::chrono::minutes(45));
  EXPECT_EQ(parse_duration("2h").value(), std::chrono::hours(2));
  EXPECT_EQ(parse_duration("3d").value(), std::chrono::hours(72));
  for (const char* bad : {"", "2", "h", "-1h", "1.5h", "2hours", "1001d", "99999999999999999999s"})
    EXPECT_FALSE(parse_duration(bad).ok()) << bad;
}

TEST(TimeTest, RoundTrips) {
  const char* text = "2026-11-23T07:05:09.120Z";
  EXPECT_EQ(format_time(parse_time(text).value()), text);
}

// Services leave the fraction out (IMDS, STS), or write one of any length.
TEST(TimeTest, TakesAnyFractionAndNothingElse) {
  EXPECT_EQ(format_time(parse_time("2026-11-23T07:05:09Z").value()), "2026-11-23T07:05:09.000Z");
  EXPECT_EQ(format_time(parse_time("2024-02-29T23:59:59.5Z").value()), "2024-02-29T23:59:59.500Z");
  EXPECT_EQ(format_time(parse_time("1969-12-31T23:59:59.123456789Z").value()),
            "1969-12-31T23:59:59.123Z");
  for (const char* bad :
       {"", "Z", "2026-11-23", "2026-11-23T07:05:09", "2026-11-23T07:05:09.Z",
        "2026-11-23T07:05:09+01:00", "2026-13-01T00:00:00Z", "2025-02-29T00:00:00Z",
        "2026-11-23T24:00:00Z", "2026-11-23T07:60:00Z", "2026-11-23T 7:05:09Z",
        "+026-11-23T07:05:09Z", "2026-11-23t07:05:09Z", "2026-11-23T07:05:09.1e3Z"})
    EXPECT_FALSE(parse_time(bad).ok()) << bad;
}

TEST(JsonTest, RefusesWrongTypesAndDepth) {
  const Json json = parse_json(R"({"a": 5, "b": "x", "n": -1})", "test").value();
  EXPECT_EQ(json_get<uint64_t>(json, "a").value(), 5u);
  EXPECT_FALSE(json_get<uint64_t>(json, "n").ok());
  EXPECT_FALSE(json_get<uint64_t>(json, "b").ok());
  EXPECT_FALSE(json_get<std::string>(json, "missing").ok());
  EXPECT_FALSE(parse_json(std::string(1000, '['), "deep").ok());
  EXPECT_FALSE(parse_json("{", "cut").ok());
}

}  // namespace
}  // namespace reclo
