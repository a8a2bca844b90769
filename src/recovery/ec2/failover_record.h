// What is known of a server that was failed over to EC2: ec2.json in STATE_DIR/instances/<id>/,
// written durably, versioned. failover.h draws its states. Values; any thread.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "cloud/ec2_client.h"
#include "recovery/ec2/block_span.h"
#include "recovery/instance_record.h"

namespace reclo::recovery {

inline constexpr size_t kEc2InstanceSizeBytesMax = size_t{4} << 20;
inline constexpr size_t kLaunchesMax = 200;

enum class FailoverState {
  kPlanned,     // nothing was made yet
  kImageReady,  // a standby's image, or one of its own
  kNetworkReady,
  kLaunched,   // EC2 answered with the instance's id
  kRunning,    // EC2 calls it running
  kAnswering,  // what was waited for answered
  kStopped,    // its volumes are kept
  kDeleting,   // everything that was made for it is being removed
};
std::string_view failover_state_name(FailoverState state);

/// Where the image comes from.
enum class FailoverVia { kAuto, kStandby, kCold, kImport };
std::string_view failover_via_name(FailoverVia via);
/// Errors: kInvalidArgument.
Result<FailoverVia> parse_failover_via(std::string_view text);

/// What was asked for. It may be given anew until an instance exists.
struct FailoverRequest {
  std::vector<std::string> instance_types;              // in the order they are tried
  std::optional<cloud::SubnetId> subnet;                // unset: the default VPC's
  std::vector<cloud::SecurityGroupId> security_groups;  // empty: one is made
  std::string key_name;
  std::string private_ip;
  bool drill = false;
  int64_t ttl_ms = 0;  // 0: for ever
  std::string wait_for;
  int64_t wait_timeout_ms = 0;
  FailoverVia via = FailoverVia::kAuto;
  std::string import_bucket;
  std::string operator_cidr;  // who is let in; empty: nobody but the VPN
  bool no_prepare = false;    // what is put cold is put as it is
  bool operator==(const FailoverRequest&) const = default;
};

/// How to reach the cloud again; never secrets.
struct CloudAddress {
  std::string region;
  std::string ec2_endpoint;
  std::string ebs_endpoint;
  std::string sts_endpoint;
  std::string quotas_endpoint;
  std::string role_arn;
  auto operator<=>(const CloudAddress&) const = default;
};

/// One disk on its way into a snapshot of its own (cold and import).
struct FailoverDisk {
  uint32_t index = 0;
  uint64_t size_bytes = 0;
  uint32_t attempt = 1;        // in the client token: a snapshot that failed is begun anew
  cloud::SnapshotId snapshot;  // empty: not started yet
  std::vector<BlockSpan> overlay_spans;  // where it was prepared: not the point's own content
  bool completed = false;
  std::string upload_id;  // of a multipart upload that goes on, or was cut
  bool uploaded = false;
  std::string import_task;
  bool operator==(const FailoverDisk&) const = default;
};

/// A disk of the image that is started.
struct ImageDisk {
  std::string device;  // "/dev/xvda"
  cloud::SnapshotId snapshot;
  bool operator==(const ImageDisk&) const = default;
};

/// One RunInstances. Everything that its client token stands for is here, so that it can be asked
/// again word for word.
struct Launch {
  uint32_t number = 0;
  std::string instance_type;
  cloud::SubnetId subnet;
  std::string zone;
  std::vector<cloud::SecurityGroupId> security_groups;
  std::string key_name;
  std::string private_ip;
  std::string refused;  // why there is no instance of it; empty: there is one, or nobody knows yet
  bool operator==(const Launch&) const = default;
};

struct Ec2Instance {
  std::string id;    // 12 hex digits, as QEMU's instances have
  std::string name;  // the user's, may be empty
  std::string server;
  std::string repository;  // its id, in hex
  MachineId machine;
  PointId point;
  WallTime point_time{};
  WallTime created_at{};
  FailoverState state = FailoverState::kPlanned;
  std::string problem;  // the last error; empty when all is well
  FailoverRequest request;
  CloudAddress cloud;
  std::map<std::string, std::string> source;  // see repository_exporter.h

  FailoverVia via = FailoverVia::kAuto;  // what was chosen
  cloud::BootMode boot_mode = cloud::BootMode::kBios;
  cloud::ImageId image;  // a standby's, or its own (then `disks` are not empty)
  std::vector<ImageDisk> image_disks;
  std::vector<FailoverDisk> disks;
  std::string overlay;                // what its own image was prepared with; empty: nothing
  cloud::SecurityGroupId made_group;  // empty: none was made
  std::vector<Launch> launches;

  cloud::InstanceId instance;  // empty: none that we know of
  std::string instance_type;
  std::string zone;
  std::string private_ip;
  std::string public_ip;
  std::string ec2_state;  // as EC2 said last
  std::optional<WallTime> expires_at;
  uint32_t run = 0;
  std::vector<StepRecord> steps;
  std::optional<int64_t> rto_ms;  // from the first call to the first answer
  std::optional<int64_t> rpo_ms;
  bool operator==(const Ec2Instance&) const = default;

  bool owns_image() const { return !disks.empty(); }
  bool overdue(WallTime now) const { return expires_at && *expires_at <= now; }
};

std::string encode_ec2_instance(const Ec2Instance& record);
/// Errors: kCorruption; kUnsupported for a newer version.
Result<Ec2Instance> decode_ec2_instance(std::string_view text);

/// One entry of `reclo instances --json`; docs/man describes it.
nlohmann::json describe_ec2_instance(const Ec2Instance& record, WallTime now);

/// What the guest finds in its user-data: that it is a copy, of what, and whether it is a drill.
/// cloud-config that writes /etc/reclo/clone.json; JSON behind its first line.
std::string clone_user_data(const Ec2Instance& record);

}  // namespace reclo::recovery
