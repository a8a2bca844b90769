#include "disk/range_collector.h"

#include <gtest/gtest.h>

namespace reclo::disk {
namespace {

TEST(RangeCollector, MergesAndAlignsInwards) {
  RangeCollector collector(100);
  collector.add({1000, 3096});   // up to 4096: no whole page
  collector.add({5000, 3192});   // to 8192: less than a page from 8192 on
  collector.add({8192, 1024});   // goes on
  collector.add({9216, 10000});  // goes on to 19216
  collector.add({40960, 4096});
  EXPECT_EQ(collector.take(), (std::vector<Range>{{8192, 8192}, {40960, 4096}}));
  EXPECT_TRUE(collector.take().empty());
}

TEST(RangeCollector, DropsTheShortestWhenThereAreTooMany) {
  RangeCollector collector(100);
  for (uint64_t i = 0; i < 1000; ++i) collector.add({i * 1000000 / 4096 * 4096, 4096});
  collector.add({uint64_t{1} << 40, 1 << 20});
  const auto ranges = collector.take();
  EXPECT_LE(ranges.size(), 100U);
  ASSERT_FALSE(ranges.empty());
  EXPECT_EQ(ranges.back(), (Range{uint64_t{1} << 40, 1 << 20}));
}

}  // namespace
}  // namespace reclo::disk
