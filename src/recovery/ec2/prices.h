// What EC2 costs in a region, from a file that says when and where its figures were taken. The one
// in this folder is built in and installed. Values; any thread.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/time.h"

namespace reclo::recovery {

/// Before taxes and discounts, in the list's currency.
struct RegionPrices {
  double snapshot_gib_month = 0;
  double volume_gib_month = 0;  // gp3
  double put_per_1000_blocks = 0;
  double get_per_1000_blocks = 0;
  double list_per_1000_requests = 0;
  double volume_initialization_gib = 0;  // fetching a volume's blocks ahead of the first touch
  double public_ipv4_hour = 0;
  std::map<std::string, double> instance_hour;  // by type
};

struct PriceList {
  std::string as_of;  // "2026-11-01"
  std::string source;
  std::string currency;
  double import_seconds_per_gib = 0;  // VM Import's speed, as its users report it
  std::map<std::string, RegionPrices> regions;

  /// Errors: kNotFound, naming the regions that are there.
  Result<const RegionPrices*> region(const std::string& name) const;
  /// Older than a year, or from a future that has not come.
  bool is_stale(WallTime now) const;
};

inline constexpr size_t kPricesSizeBytesMax = size_t{1} << 20;

/// Errors: kCorruption, kUnsupported for a newer version.
Result<PriceList> decode_prices(std::string_view text);
/// The text of the list that is built in.
std::string_view built_in_prices();

}  // namespace reclo::recovery
