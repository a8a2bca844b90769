// EC2: snapshots, images, instances and what lets people reach them. API version 2016-11-15.
//
// Everything made here is tagged by its caller, so that nothing is ever lost sight of. EC2 is
// eventually consistent: what was just made may be "not found" for a while; wait_for_*() know.
// Safe from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cloud/query_client.h"
#include "cloud/resource_id.h"

namespace reclo::cloud {

/// Name ("tag:reclo-server", "state") and the values any of which fits.
using Filters = std::vector<std::pair<std::string, std::vector<std::string>>>;

struct Snapshot {
  SnapshotId id;
  std::string state;  // "pending", "completed", "error"
  std::string state_message;
  uint32_t volume_size_gib = 0;
  Tags tags;
};

enum class BootMode { kBios, kUefi };

struct DiskMapping {
  std::string device_name;  // "/dev/xvda"
  SnapshotId snapshot;
  uint32_t volume_size_gib = 0;  // 0: the snapshot's
  /// MiB/s at which the volume's blocks are fetched ahead of the first touch, 100 … 300; 0: lazily.
  uint32_t initialization_rate = 0;
};

struct RegisterImage {
  std::string name;
  std::string description;
  BootMode boot_mode = BootMode::kBios;
  std::vector<DiskMapping> disks;  // the first one is the root
  Tags tags;
};

struct Image {
  ImageId id;
  std::string name;
  std::string state;  // "available", "pending", "failed" …
  std::string boot_mode;
  std::string root_device;
  std::vector<DiskMapping> disks;
  Tags tags;
};

struct RunInstance {
  ImageId image;
  std::string instance_type;
  std::optional<SubnetId> subnet;
  std::vector<SecurityGroupId> security_groups;
  std::string key_name;      // empty: none
  std::string private_ip;    // empty: any of the subnet
  std::string user_data;     // as the guest shall read it
  std::string client_token;  // the same token again gives the same instance
  std::string instance_profile;
  bool nested_virtualization = false;
  std::vector<DiskMapping> disks;  // what differs from the image's own mapping
  Tags tags;                       // of the instance and its volumes
};

struct Instance {
  InstanceId id;
  std::string state;  // "pending", "running", "shutting-down", "terminated", "stopping", "stopped"
  std::string state_reason;
  std::string type;
  std::string zone;
  std::string private_ip;
  std::string public_ip;
  VpcId vpc;              // empty once it is terminated
  bool on_demand = true;  // neither spot nor scheduled
  ImageId image;
  std::map<std::string, VolumeId> volumes;  // by device name
  Tags tags;
};

struct InstanceType {
  std::string name;
  uint32_t vcpus = 0;
  uint64_t memory_mib = 0;
  std::vector<std::string> architectures;  // "x86_64", "arm64", "i386"
  std::vector<std::string> boot_modes;     // "uefi", "legacy-bios"; empty: not told
};

struct Subnet {
  SubnetId id;
  VpcId vpc;
  std::string zone;
  std::string cidr;
};

struct SecurityGroup {
  SecurityGroupId id;
  std::string name;
  VpcId vpc;
  size_t egress_rules = 0;
  Tags tags;
};

struct IngressRule {
  std::string protocol = "tcp";  // "tcp", "udp", "-1": all
  uint16_t port = 0;
  std::string cidr;  // "203.0.113.7/32"
};

struct ImportTask {
  std::string id;      // "import-snap-…"
  std::string status;  // "active", "completed", "deleted" …
  std::string message;
  uint32_t progress_percent = 0;
  std::optional<SnapshotId> snapshot;
};

class Ec2Client {
 public:
  explicit Ec2Client(const ServiceOptions& options);

  // ---- snapshots (ec2_snapshots.cc)
  Result<std::vector<Snapshot>> snapshots(const Filters& filters, const CancelToken& cancel);
  Result<Snapshot> snapshot(const SnapshotId& id, const CancelToken& cancel);
  /// Until it is completed, three answers in a row. Errors: kIo when it ends in "error", kTimeout.
  Status wait_for_snapshot(const SnapshotId& id, std::chrono::milliseconds patience,
                           const CancelToken& cancel);
  Result<SnapshotId> create_snapshot(const VolumeId& volume, const Tags& tags,
                                     const CancelToken& cancel);
  Status delete_snapshot(const SnapshotId& id, const CancelToken& cancel);
  /// From a VHD or raw file in S3; needs the role "vmimport".
  Result<ImportTask> import_snapshot(const std::string& bucket, const std::string& key,
                                     const std::string& format, const std::string& client_token,
                                     const Tags& tags, const CancelToken& cancel);
  Result<ImportTask> import_task(const std::string& id, const CancelToken& cancel);
  /// What has ended already is success: the snapshot is then there.
  Status cancel_import_task(const std::string& id, const CancelToken& cancel);

  /// For what cannot be tagged when it is made.
  Status create_tags(const SnapshotId& id, const Tags& tags, const CancelToken& cancel);

  // ---- images (ec2_images.cc)
  /// x86_64, hvm, ENA, gp3, IMDSv2. Errors: kAlreadyExists for a name that is taken.
  Result<ImageId> register_image(const RegisterImage& wanted, const CancelToken& cancel);
  Result<std::vector<Image>> images(const Filters& filters, const CancelToken& cancel);
  /// What is gone already is success. Its snapshots stay.
  Status deregister_image(const ImageId& id, const CancelToken& cancel);

  // ---- instances (ec2_instances.cc)
  /// Errors: kResourceExhausted for a type or zone without capacity, and for a quota.
  Result<Instance> run_instance(const RunInstance& wanted, const CancelToken& cancel);
  Result<std::vector<Instance>> instances(const Filters& filters, const CancelToken& cancel);
  Result<Instance> instance(const InstanceId& id, const CancelToken& cancel);
  /// `force`: the guest is not asked to shut down first.
  Status stop_instance(const InstanceId& id, const CancelToken& cancel, bool force = false);
  Status start_instance(const InstanceId& id, const CancelToken& cancel);
  Status terminate_instance(const InstanceId& id, const CancelToken& cancel);
  /// What the serial console showed, as far as EC2 has it.
  Result<std::string> console_output(const InstanceId& id, const CancelToken& cancel);

  /// Those of them that this region has.
  Result<std::vector<InstanceType>> instance_types(const std::vector<std::string>& names,
                                                   const CancelToken& cancel);

  // ---- network (ec2_network.cc)
  Result<Subnet> subnet(const SubnetId& id, const CancelToken& cancel);
  Result<std::vector<Subnet>> subnets(const Filters& filters, const CancelToken& cancel);
  Result<std::vector<SecurityGroup>> security_groups(const Filters& filters,
                                                     const CancelToken& cancel);
  Result<SecurityGroupId> create_security_group(const std::string& name,
                                                const std::string& description, const VpcId& vpc,
                                                const Tags& tags, const CancelToken& cancel);
  Status allow_ingress(const SecurityGroupId& group, const IngressRule& rule,
                       const CancelToken& cancel);
  /// For drills: a new group lets everything out, by IPv4 and, in some VPCs, by IPv6.
  Status deny_egress(const SecurityGroupId& group, const CancelToken& cancel);
  Status delete_security_group(const SecurityGroupId& group, const CancelToken& cancel);

  const net::AwsClientOptions& options() const { return client_.options(); }

 private:
  QueryClient client_;
};

}  // namespace reclo::cloud
