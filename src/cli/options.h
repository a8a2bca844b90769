// What the command line says, as plain values. docs/man and --help describe each.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "store/open_store.h"

namespace reclo::cli {

enum class ProgressMode { kAuto, kBar, kJson, kNone };

struct GlobalOptions {
  store::StoreOptions store;
  uint32_t retry_for_seconds = 300;
  std::string upload_limit;  // sizes as typed: "10M"
  std::string download_limit;
  std::string passphrase_file;
  std::string state_directory;
  bool json = false;
  bool verbose = false;
  ProgressMode progress = ProgressMode::kAuto;
};

struct InitArgs {};

struct BackupArgs {
  std::string server;
  std::vector<std::string> disks;
  bool full = false;
  int compression_level = 0;
  unsigned workers = 0;
  unsigned upload_threads = 4;
};

struct PointsArgs {
  std::string server;
};

struct ShowArgs {
  std::string point;
};

struct DiffArgs {
  std::string before;
  std::string after;
};

struct RestoreArgs {
  std::string point;
  uint32_t disk = 0;
  std::string to;
  std::string format = "raw";
  bool force = false;
};

struct ServeArgs {
  std::string point;
  uint32_t disk = 0;
  std::string socket;
  std::string listen;
  std::string writable_overlay;
};

struct CloudArgs {
  std::string region;
  std::string ec2_endpoint;
  std::string ebs_endpoint;
  std::string sts_endpoint;
  std::string quotas_endpoint;
  std::string role_arn;
};

/// What `recover --on ec2` asks for beside the rest.
struct Ec2Args {
  std::vector<std::string> instance_types;
  std::string subnet;
  std::vector<std::string> security_groups;
  std::string key_name;
  std::string private_ip;
  bool drill = false;
  std::string ttl;  // as typed: "2h"
  std::string via = "auto";
  std::string import_bucket;
  std::string operator_cidr;
  bool no_prepare = false;
  CloudArgs cloud;
};

struct PolicyArgs {
  std::string target = "ec2";
};

struct PrepareArgs {
  std::string point;
  std::string target = "ec2";
  std::string ssh_key_file;
  std::string first_boot_file;
  std::vector<std::string> apply_to;  // restored disks, in order
  bool report = false;
  bool dry_run = false;
  bool anew = false;
};

struct UnprepareArgs {
  std::vector<std::string> disks;
};

struct StandbyArgs {
  std::string server;
  std::string point;  // empty: the newest
  bool full = false;
  unsigned keep = 0;
  bool check = false;
  std::vector<std::string> instance_types;  // what failover would start, for --check
  bool no_prepare = false;
  CloudArgs cloud;
};

struct RecoverArgs {
  std::string point;
  std::string target = "qemu";
  std::string name;
  std::string memory = "1G";
  unsigned cpus = 1;
  std::vector<std::string> forwards;
  std::string accelerator = "auto";
  std::string display = "none";
  std::string firmware = "auto";
  std::string disk_bus = "auto";
  std::string wait_for;
  unsigned wait_timeout_s = 600;
  bool hydrate = false;
  std::string hydrate_limit;
  bool isolated = false;
  Ec2Args ec2;
};

struct InstancesArgs {
  bool reap = false;
};

struct StopArgs {
  std::string instance;
  bool force = false;
  bool remove = false;
};

struct ResumeArgs {
  std::string instance;
};

struct SupervisorArgs {
  std::string instance;
  int key_fd = -1;
};

struct VerifyArgs {
  bool read_data = false;
};

struct KeyAddArgs {
  bool recovery_code = false;
  std::string new_passphrase_file;
  std::string label;
};

struct KeyRemoveArgs {
  std::string slot;
};

}  // namespace reclo::cli
