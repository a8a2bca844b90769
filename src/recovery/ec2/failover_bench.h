// What the steps of one failover share. One thread; the instance's lock is held.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <string>
#include <vector>

#include "base/encoding.h"
#include "base/progress.h"
#include "cloud/cloud.h"
#include "net/digest.h"
#include "recovery/ec2/failover_store.h"
#include "recovery/ec2/import_path.h"
#include "recovery/ec2/standby.h"

namespace reclo::recovery {

inline constexpr const char* kInstanceTag = "reclo-instance";

/// The recovery point with what makes it start in EC2 laid over; minutes, unless it is cached.
using PreparePoint =
    std::function<Result<StandbySource*>(ProgressSink& progress, const CancelToken& cancel)>;

struct FailoverBench {
  const Ec2InstanceStore& store;
  Ec2Instance& record;
  const cloud::Cloud& cloud;
  StandbySource* source;        // the recovery point; null when the image is there already
  const PreparePoint& prepare;  // before an image is made of it; may be empty
  const ImportTools* import;    // null: no import
  ProgressSink& progress;
  const CancelToken& cancel;
  std::vector<std::string>& warnings;

  Status save() const { return store.save(record); }
  /// The same for the same words about the same instance, so that what is asked twice happens once.
  std::string client_token(const std::string& words) const {
    return to_hex(net::sha256(
        as_bytes(fmt::format("failover/{}/{}/{}", record.repository, record.id, words))));
  }
  /// What everything made for this instance is marked with.
  cloud::Tags tags() const {
    return {{"Name", fmt::format("reclo {} of {}", record.request.drill ? "drill" : "failover",
                                 record.server)},
            {"reclo-repository", record.repository},
            {"reclo-machine", record.machine.hex()},
            {"reclo-server", record.server},
            {"reclo-point", record.point.hex()},
            {"reclo-role", record.request.drill ? "drill" : "failover"},
            {kInstanceTag, record.id}};
  }
  cloud::Filters made_for_it() const {
    return {{fmt::format("tag:{}", kInstanceTag), {record.id}},
            {"tag:reclo-repository", {record.repository}}};
  }
};

}  // namespace reclo::recovery
