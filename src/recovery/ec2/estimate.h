// What keeping and starting a server in EC2 costs, and how long it takes, before any of it is done.
//
// The standby: snapshot storage is paid for each 512 KiB block that holds data; a refresh puts each
// block in which a changed page lies. Times are the service's quota, blocks / (1,000 / s), and say
// nothing of the uplink. Safe from any thread.
#pragma once

#include <vector>

#include "recovery/ec2/prices.h"
#include "repo/map_reader.h"
#include "repo/repository.h"

namespace reclo::recovery {

/// What the maps tell of a recovery point.
struct PointExtent {
  uint64_t size_bytes = 0;   // of all disks
  uint64_t volume_gib = 0;   // of the volumes that hold them
  uint64_t data_blocks = 0;  // 512 KiB blocks with data
};
/// Reads map nodes only, never data.
Result<PointExtent> measure_extent(repo::MapReader& maps, const repo::PointRecord& point,
                                   const CancelToken& cancel);

/// How much a refresh is: the mean over the newest points, and how often there were points.
struct ChangeRate {
  size_t intervals = 0;  // 0: there is one point only, nothing was measured
  double blocks = 0;     // changed from one point to the next
  double points_per_month = 0;
};
/// `points`: ascending; the newest `intervals_max` + 1 are compared. Reads map nodes only.
Result<ChangeRate> measure_change(repo::MapReader& maps, const std::vector<repo::Point>& points,
                                  size_t intervals_max, const CancelToken& cancel);

struct EstimateRequest {
  PointExtent extent;
  double changed_blocks = 0;  // in one refresh
  double refreshes_per_month = 30;
  std::string instance_type;
  bool public_ip = true;
};

struct Estimate {
  double snapshot_gib = 0;
  double storage_month = 0;
  double requests_month = 0;  // what the refreshes ask
  double standby_month = 0;   // both
  double first_put = 0;       // putting everything, once
  double instance_hour = 0;
  double volumes_hour = 0;
  double public_ip_hour = 0;
  double failover_hour = 0;          // the three
  double volume_initialization = 0;  // once for each failover
  double refresh_seconds = 0;
  double cold_seconds = 0;
  double import_seconds = 0;
};

/// Errors: kNotFound for an instance type that the list does not have.
Result<Estimate> make_estimate(const EstimateRequest& request, const PriceList& list,
                               const RegionPrices& prices);

}  // namespace reclo::recovery
