#include "recovery/ec2/estimate.h"

#include <fmt/format.h>

#include <algorithm>

#include "cloud/ebs_client.h"
#include "image/block_image.h"
#include "image/point_diff.h"
#include "recovery/ec2/block_span.h"

namespace reclo::recovery {
namespace {

constexpr size_t kRunsAtOnce = 4096;
constexpr double kHoursPerMonth = 730;  // as AWS counts
constexpr double kBlocksPerSecond = 1000;
constexpr double kBlocksPerList = 10'000;
constexpr double kReadBackBlocks = 16;
constexpr double kMsPerMonth = kHoursPerMonth * 3600 * 1000;

Result<uint64_t> data_blocks(repo::MapReader& maps, const repo::DiskRecord& disk,
                             const CancelToken& cancel) {
  image::BlockImageOptions options;
  options.read_ahead_segments_max = 0;
  image::BlockImage image(maps, disk, options);
  uint64_t blocks = 0;
  uint64_t counted_to = 0;  // blocks below this one are counted
  for (uint64_t at = 0; at < image.size_bytes();) {
    RECLO_ASSIGN_OR_RETURN(const std::vector<image::Run> runs,
                           image.runs({at, image.size_bytes() - at}, kRunsAtOnce, cancel));
    RECLO_CHECK(!runs.empty());
    for (const image::Run& run : runs) {
      if (!run.is_data) continue;
      const uint64_t first =
          std::max(counted_to, run.range.offset_bytes / cloud::kEbsBlockSizeBytes);
      counted_to = divide_up(run.range.end_bytes(), cloud::kEbsBlockSizeBytes);
      blocks += counted_to - std::min(first, counted_to);
    }
    at = runs.back().range.end_bytes();
  }
  return blocks;
}

}  // namespace

Result<PointExtent> measure_extent(repo::MapReader& maps, const repo::PointRecord& point,
                                   const CancelToken& cancel) {
  PointExtent out;
  for (const repo::DiskRecord& disk : point.disks) {
    out.size_bytes += disk.size_bytes;
    out.volume_gib += volume_size_gib(disk.size_bytes);
    RECLO_ASSIGN_OR_RETURN(const uint64_t blocks, data_blocks(maps, disk, cancel));
    out.data_blocks += blocks;
  }
  return out;
}

Result<ChangeRate> measure_change(repo::MapReader& maps, const std::vector<repo::Point>& points,
                                  size_t intervals_max, const CancelToken& cancel) {
  ChangeRate out;
  const size_t first = points.size() > intervals_max ? points.size() - intervals_max : 1;
  uint64_t blocks = 0;
  for (size_t i = std::max<size_t>(first, 1); i < points.size(); ++i, ++out.intervals) {
    const auto& before = points[i - 1].record.disks;
    const auto& after = points[i].record.disks;
    for (size_t disk = 0; disk < after.size(); ++disk) {
      RECLO_ASSIGN_OR_RETURN(
          const auto ranges,
          image::changed_ranges(maps, disk < before.size() ? &before[disk] : nullptr, &after[disk],
                                cancel));
      blocks += count_blocks(block_spans(ranges));
    }
  }
  if (out.intervals == 0) return out;
  out.blocks = static_cast<double>(blocks) / static_cast<double>(out.intervals);
  const auto span =
      points.back().record.taken - points[points.size() - 1 - out.intervals].record.taken;
  if (span.count() > 0)
    out.points_per_month =
        kMsPerMonth * static_cast<double>(out.intervals) / static_cast<double>(span.count());
  return out;
}

Result<Estimate> make_estimate(const EstimateRequest& request, const PriceList& list,
                               const RegionPrices& prices) {
  const auto type = prices.instance_hour.find(request.instance_type);
  if (type == prices.instance_hour.end()) {
    std::string known;
    for (const auto& [name, ignored] : prices.instance_hour)
      known += (known.empty() ? "" : ", ") + name;
    return Error(Code::kNotFound,
                 fmt::format("the price list has no instance type '{}' in this region; it has {}",
                             request.instance_type, known));
  }
  const auto blocks = static_cast<double>(request.extent.data_blocks);
  const auto volume_gib = static_cast<double>(request.extent.volume_gib);
  Estimate out;
  out.snapshot_gib = blocks / cloud::kEbsBlocksPerGib;
  out.storage_month = out.snapshot_gib * prices.snapshot_gib_month;
  const double refresh = request.changed_blocks / 1000 * prices.put_per_1000_blocks +
                         kReadBackBlocks / 1000 * prices.get_per_1000_blocks +
                         kReadBackBlocks / 1000 * prices.list_per_1000_requests;
  out.requests_month = refresh * request.refreshes_per_month;
  out.standby_month = out.storage_month + out.requests_month;
  out.first_put = blocks / 1000 * prices.put_per_1000_blocks +
                  (blocks / kBlocksPerList + 1) / 1000 * prices.list_per_1000_requests;
  out.instance_hour = type->second;
  out.volumes_hour = volume_gib * prices.volume_gib_month / kHoursPerMonth;
  out.public_ip_hour = request.public_ip ? prices.public_ipv4_hour : 0;
  out.failover_hour = out.instance_hour + out.volumes_hour + out.public_ip_hour;
  out.volume_initialization = out.snapshot_gib * prices.volume_initialization_gib;
  out.refresh_seconds = request.changed_blocks / kBlocksPerSecond;
  out.cold_seconds = blocks / kBlocksPerSecond;
  out.import_seconds = out.snapshot_gib * list.import_seconds_per_gib;
  return out;
}

}  // namespace reclo::recovery
