#include "recovery/ec2/prices.h"

#include <fmt/format.h>

#include <cmath>

#include "base/json.h"
#include "base/record_error.h"

namespace reclo::recovery {
namespace {

constexpr uint32_t kPricesVersion = 1;
constexpr size_t kRegionsMax = 200;
constexpr size_t kTypesMax = 5000;
constexpr double kPriceMax = 1e6;
constexpr auto kStaleAfter = std::chrono::hours(24 * 365);
constexpr auto kClockSlack = std::chrono::hours(48);

Result<double> decode_price(const Json& json, std::string_view key) {
  RECLO_ASSIGN_OR_RETURN(const double price, json_get<double>(json, key));
  if (!std::isfinite(price) || price < 0 || price > kPriceMax)
    return Error(Code::kCorruption, fmt::format("'{}' is no price", key));
  return price;
}

Result<RegionPrices> decode_region(const Json& json) {
  RegionPrices out;
  const std::pair<const char*, double*> fields[] = {
      {"snapshot_gib_month", &out.snapshot_gib_month},
      {"volume_gib_month", &out.volume_gib_month},
      {"put_per_1000_blocks", &out.put_per_1000_blocks},
      {"get_per_1000_blocks", &out.get_per_1000_blocks},
      {"list_per_1000_requests", &out.list_per_1000_requests},
      {"volume_initialization_gib", &out.volume_initialization_gib},
      {"public_ipv4_hour", &out.public_ipv4_hour},
  };
  for (const auto& [key, price] : fields) {
    RECLO_ASSIGN_OR_RETURN(*price, decode_price(json, key));
  }
  RECLO_ASSIGN_OR_RETURN(const Json* types, json_object(json, "instance_hour"));
  if (types->size() > kTypesMax) return Error(Code::kCorruption, "too many instance types");
  for (const auto& [type, ignored] : types->items()) {
    RECLO_ASSIGN_OR_RETURN(out.instance_hour[type], decode_price(*types, type));
  }
  return out;
}

Result<PriceList> decode_fields(const Json& json) {
  RECLO_ASSIGN_OR_RETURN(const uint32_t version, json_get<uint32_t>(json, "version"));
  if (version != kPricesVersion)
    return Error(Code::kUnsupported, fmt::format("it is of version {}, this program knows {}",
                                                 version, kPricesVersion));
  PriceList out;
  RECLO_ASSIGN_OR_RETURN(out.as_of, json_get<std::string>(json, "as_of"));
  RECLO_TRY(parse_time(out.as_of + "T00:00:00Z"));
  RECLO_ASSIGN_OR_RETURN(out.source, json_get<std::string>(json, "source"));
  RECLO_ASSIGN_OR_RETURN(out.currency, json_get<std::string>(json, "currency"));
  RECLO_ASSIGN_OR_RETURN(out.import_seconds_per_gib, decode_price(json, "import_seconds_per_gib"));
  RECLO_ASSIGN_OR_RETURN(const Json* regions, json_object(json, "regions"));
  if (regions->size() > kRegionsMax) return Error(Code::kCorruption, "too many regions");
  for (const auto& [name, prices] : regions->items()) {
    RECLO_ASSIGN_OR_RETURN_WITH(out.regions[name], decode_region(prices), name);
  }
  return out;
}

}  // namespace

Result<const RegionPrices*> PriceList::region(const std::string& name) const {
  if (const auto found = regions.find(name); found != regions.end()) return &found->second;
  std::string known;
  for (const auto& [other, ignored] : regions) known += (known.empty() ? "" : ", ") + other;
  return Error(Code::kNotFound,
               fmt::format("the price list has no region '{}' (it has {}): give another --region, "
                           "or a list of your own by --prices",
                           name, known.empty() ? "none" : known));
}

bool PriceList::is_stale(WallTime now) const {
  const auto taken = parse_time(as_of + "T00:00:00Z");
  return !taken.ok() || now - *taken > kStaleAfter || *taken - now > kClockSlack;
}

Result<PriceList> decode_prices(std::string_view text) {
  RECLO_ASSIGN_OR_RETURN(const Json json, parse_json(text, "the price list", kPricesSizeBytesMax));
  return name_unusable(decode_fields(json), "the price list cannot be used");
}

}  // namespace reclo::recovery
