// Strong types for the names that EC2 gives its things: "snap-0123456789abcdef0". Two kinds never
// mix, and whatever has been parsed is safe in a URL.
#pragma once

#include <compare>
#include <string>
#include <string_view>

#include "base/result.h"

namespace reclo::cloud {

namespace detail {
Status check_resource_id(std::string_view text, std::string_view prefix, std::string_view kind);
}  // namespace detail

/// Kind: { static constexpr std::string_view kPrefix, kName; }
template <class Kind>
class ResourceId {
 public:
  ResourceId() = default;
  /// Errors: kInvalidArgument unless it is the kind's prefix and 1 to 40 of [0-9a-z].
  static Result<ResourceId> parse(std::string_view text) {
    RECLO_TRY(detail::check_resource_id(text, Kind::kPrefix, Kind::kName));
    ResourceId id;
    id.text_ = text;
    return id;
  }
  const std::string& text() const { return text_; }
  bool empty() const { return text_.empty(); }
  auto operator<=>(const ResourceId&) const = default;

 private:
  std::string text_;
};

struct SnapshotKind {
  static constexpr std::string_view kPrefix = "snap-", kName = "snapshot";
};
struct ImageKind {
  static constexpr std::string_view kPrefix = "ami-", kName = "image";
};
struct InstanceKind {
  static constexpr std::string_view kPrefix = "i-", kName = "instance";
};
struct VolumeKind {
  static constexpr std::string_view kPrefix = "vol-", kName = "volume";
};
struct SubnetKind {
  static constexpr std::string_view kPrefix = "subnet-", kName = "subnet";
};
struct VpcKind {
  static constexpr std::string_view kPrefix = "vpc-", kName = "VPC";
};
struct SecurityGroupKind {
  static constexpr std::string_view kPrefix = "sg-", kName = "security group";
};

using SnapshotId = ResourceId<SnapshotKind>;
using ImageId = ResourceId<ImageKind>;
using InstanceId = ResourceId<InstanceKind>;
using VolumeId = ResourceId<VolumeKind>;
using SubnetId = ResourceId<SubnetKind>;
using VpcId = ResourceId<VpcKind>;
using SecurityGroupId = ResourceId<SecurityGroupKind>;

}  // namespace reclo::cloud
