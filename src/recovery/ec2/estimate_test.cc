#include "recovery/ec2/estimate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/units.h"

namespace reclo::recovery {
namespace {

using ::testing::HasSubstr;

PriceList built_in() { return decode_prices(built_in_prices()).value(); }

TEST(Prices, TheBuiltInListIsUsableAndSaysWhenItWasTaken) {
  const PriceList list = built_in();
  EXPECT_FALSE(list.source.empty());
  EXPECT_TRUE(list.region("us-east-1").ok());
  const auto missing = list.region("mars-north-1");
  ASSERT_FALSE(missing.ok());
  EXPECT_THAT(missing.error().message(), HasSubstr("us-east-1"));
}

TEST(Prices, AreStaleAfterAYear) {
  PriceList list = built_in();
  list.as_of = "2026-11-01";
  EXPECT_FALSE(list.is_stale(parse_time("2027-10-01T00:00:00Z").value()));
  EXPECT_TRUE(list.is_stale(parse_time("2027-11-02T00:00:00Z").value()));
  EXPECT_TRUE(list.is_stale(parse_time("2026-01-01T00:00:00Z").value()));
}

TEST(Prices, NonsenseIsRefusedInWords) {
  for (const std::string text :
       {"", "[]", "{}", R"({"version":1})",
        R"({"version":1,"as_of":"soon","source":"","currency":"","import_seconds_per_gib":1,)"
        R"("regions":{}})",
        R"({"version":1,"as_of":"2026-11-01","source":"","currency":"",)"
        R"("import_seconds_per_gib":-1,"regions":{}})",
        R"({"version":1,"as_of":"2026-11-01","source":"","currency":"",)"
        R"("import_seconds_per_gib":1,"regions":{"a":{"snapshot_gib_month":1e400}}})"}) {
    const auto list = decode_prices(text);
    ASSERT_FALSE(list.ok()) << text;
    EXPECT_EQ(list.error().code(), Code::kCorruption) << text;
  }
  const auto newer = decode_prices(R"({"version":2})");
  ASSERT_FALSE(newer.ok());
  EXPECT_EQ(newer.error().code(), Code::kUnsupported);
}

// The figures of AWS's own examples: 30 GiB of which 12 are used.
TEST(Estimate, OfAServerWithThirtyGibibytes) {
  const PriceList list = built_in();
  const RegionPrices& prices = *list.region("us-east-1").value();
  EstimateRequest request;
  request.extent = {30 * kGiB, 30, 24'576};
  request.changed_blocks = 1000;
  request.refreshes_per_month = 30;
  request.instance_type = "m6i.large";
  const auto estimate = make_estimate(request, list, prices);
  ASSERT_TRUE(estimate.ok());
  EXPECT_NEAR(estimate->storage_month, 0.60, 0.001);
  EXPECT_NEAR(estimate->requests_month, 0.18, 0.01);
  EXPECT_NEAR(estimate->first_put, 0.15, 0.01);
  EXPECT_NEAR(estimate->cold_seconds, 24.6, 0.1);
  EXPECT_NEAR(estimate->failover_hour, 0.096 + 30 * 0.08 / 730 + 0.005, 1e-9);
  request.instance_type = "z9.huge";
  EXPECT_EQ(make_estimate(request, list, prices).error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace reclo::recovery
