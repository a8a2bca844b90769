// User data for an EC2 instance (or any Debian 12 with KVM) that becomes a host: it installs QEMU
// and ReClo, and runs a recovery point of the repository as a guest, again after each restart.
//
// The text holds no secret: the passphrase is fetched at each start from where the operator put it
// (SSM Parameter Store or Secrets Manager), by the instance's role, into a file in memory that is
// removed when the guest runs. Every value from outside is quoted for the shell. Any thread.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "recovery/forward.h"

namespace reclo::recovery {

inline constexpr size_t kUserDataSizeBytesMax = size_t{16} << 10;  // EC2's limit

struct HostUserData {
  std::string repository;  // s3://…
  std::string s3_endpoint;
  std::string s3_region;
  bool s3_path_style = false;
  std::string point;  // "latest:frontdesk"
  std::string name;   // the instance's on the host
  std::string memory = "2G";
  uint32_t cpus = 2;
  std::vector<std::string> forwards;  // as `recover --forward` takes them
  std::string wait_for;
  bool hydrate = false;
  std::string package_url;           // a .deb; empty: apt has one
  std::string package_sha256;        // in hex; of what package_url gives
  std::string passphrase_parameter;  // one of these two: the name of an SSM parameter …
  std::string passphrase_secret;     // … or a secret of Secrets Manager, its ARN or name
  std::string region;                // of the parameter or secret; empty: the instance's
};

/// A script for cloud-init. Errors: kInvalidArgument for values that cannot be right, and when the
/// text would be longer than EC2 takes.
Result<std::string> host_user_data(const HostUserData& wanted);

/// 'text' as one word of a shell.
std::string shell_quoted(std::string_view text);

}  // namespace reclo::recovery
