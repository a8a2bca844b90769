// Opens the object store that a URL names, wrapped as the options say.
//
//   "/srv/backup", "backup", "file:///srv/backup"   a folder (FolderStore)
//   "s3://bucket", "s3://bucket/some/prefix"        S3 or S3-compatible (S3Store)
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/cancel.h"
#include "store/object_store.h"

namespace reclo::store {

struct StoreOptions {
  std::string url;
  /// Makes a missing folder (for `init`). Buckets are never made.
  bool create_folder = false;

  /// "https://host[:port]" of an S3-compatible service; empty: Amazon S3 of the region.
  std::string s3_endpoint;
  /// Empty: AWS_REGION, AWS_DEFAULT_REGION, the profile's region, then "us-east-1".
  std::string s3_region;
  /// Bucket in the path instead of in the host name. Unset: path style exactly when an endpoint is
  /// given, which is what S3-compatible services mostly want.
  std::optional<bool> s3_path_style;
  /// Sends x-amz-checksum-sha256 with each upload. Unset: yes on Amazon S3; elsewhere Content-MD5,
  /// which every S3-compatible service checks.
  std::optional<bool> s3_sha256_checksums;

  /// 0: no limit. Shared by all threads that use the store.
  uint64_t upload_limit_bytes_per_second = 0;
  uint64_t download_limit_bytes_per_second = 0;
  uint32_t request_limit_per_second = 0;

  /// How long one call keeps trying while the store cannot be reached.
  std::chrono::milliseconds patience{std::chrono::minutes(5)};
  /// Connections kept open, and so requests in flight. More callers wait their turn.
  uint32_t connections_max = 32;
};

/// Opens the store. Makes no request: the first call on it reports wrong or missing credentials, a
/// missing bucket and the like. Errors: kInvalidArgument for the URL or the AWS configuration,
/// kNotFound for a missing folder.
Result<std::unique_ptr<ObjectStore>> open_store(const StoreOptions& options,
                                                const CancelToken& cancel);

}  // namespace reclo::store
