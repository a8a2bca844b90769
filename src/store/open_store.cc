#include "store/open_store.h"

#include <fmt/format.h>

#include "net/aws_config.h"
#include "net/aws_credentials.h"
#include "net/url.h"
#include "store/folder_store.h"
#include "store/limited_store.h"
#include "store/s3_store.h"
#include "store/s3_upload.h"

namespace reclo::store {
namespace {

constexpr std::string_view kS3Scheme = "s3://";
constexpr std::string_view kFileScheme = "file://";
constexpr std::string_view kFallbackRegion = "us-east-1";

Error bad_url(const StoreOptions& options, std::string_view why) {
  return Error(Code::kInvalidArgument,
               fmt::format("'{}' names no repository ({}): give a folder, file:///folder or "
                           "s3://bucket/prefix",
                           options.url, why));
}

std::string amazon_endpoint(const std::string& region) {
  return fmt::format("https://s3.{}.amazonaws.com{}", region,
                     region.starts_with("cn-") ? ".cn" : "");
}

// Where the service is and how it is spoken to.
Result<S3Options> s3_options(const StoreOptions& options, std::string bucket, bool& is_amazon) {
  const net::Environment environment = net::process_environment();
  S3Options s3;
  s3.bucket = std::move(bucket);
  s3.region = options.s3_region;
  if (s3.region.empty()) {
    RECLO_ASSIGN_OR_RETURN(s3.region, net::configured_aws_region(environment));
  }
  if (s3.region.empty()) s3.region = kFallbackRegion;

  s3.endpoint = options.s3_endpoint;
  for (const char* variable : {"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"})
    if (s3.endpoint.empty()) s3.endpoint = environment(variable).value_or("");
  is_amazon = s3.endpoint.empty();
  if (is_amazon) s3.endpoint = amazon_endpoint(s3.region);
  // Amazon's certificate covers one label before its own name, so bucket names with dots go in the
  // path.
  const bool has_dots = s3.bucket.find('.') != std::string::npos;
  s3.path_style = options.s3_path_style.value_or(!is_amazon || has_dots);
  s3.retry.patience = options.patience;
  s3.http.connections_max = options.connections_max;
  return s3;
}

Result<std::unique_ptr<ObjectStore>> open_s3(const StoreOptions& options) {
  S3StoreOptions s3;
  std::string rest = options.url.substr(kS3Scheme.size());
  while (rest.ends_with('/')) rest.pop_back();
  const size_t slash = rest.find('/');
  s3.s3.bucket = rest.substr(0, slash);
  if (s3.s3.bucket.empty()) return bad_url(options, "no bucket");
  if (slash != std::string::npos) s3.prefix = rest.substr(slash + 1);

  bool is_amazon = false;
  RECLO_ASSIGN_OR_RETURN(s3.s3, s3_options(options, std::move(s3.s3.bucket), is_amazon));
  s3.sha256_checksums = options.s3_sha256_checksums.value_or(is_amazon);
  RECLO_ASSIGN_OR_RETURN(std::unique_ptr<S3Store> store,
                         S3Store::open(std::move(s3), std::make_shared<net::CredentialsProvider>(
                                                          net::process_environment())));
  return std::unique_ptr<ObjectStore>(std::move(store));
}

Result<std::unique_ptr<ObjectStore>> open_folder(const StoreOptions& options) {
  std::string folder = options.url;
  if (folder.starts_with(kFileScheme)) {
    folder.erase(0, kFileScheme.size());
    if (!folder.starts_with('/')) return bad_url(options, "file:// needs an absolute path");
    RECLO_ASSIGN_OR_RETURN(folder, net::percent_decode(folder));
  }
  if (folder.empty()) return bad_url(options, "it is empty");
  if (folder.find("://") != std::string::npos) return bad_url(options, "unknown scheme");
  Result<std::unique_ptr<FolderStore>> store = FolderStore::open(folder, options.create_folder);
  if (!store.ok()) return std::move(store).error();
  return std::unique_ptr<ObjectStore>(*std::move(store));
}

}  // namespace

Result<std::unique_ptr<S3Client>> open_bucket(const StoreOptions& options,
                                              const std::string& bucket) {
  bool is_amazon = false;
  RECLO_ASSIGN_OR_RETURN(S3Options s3, s3_options(options, bucket, is_amazon));
  RECLO_TRY(check_s3_options(s3));
  return std::make_unique<S3Client>(
      std::move(s3), std::make_shared<net::CredentialsProvider>(net::process_environment()));
}

Result<std::unique_ptr<ObjectStore>> open_store(const StoreOptions& options,
                                                const CancelToken& cancel) {
  RECLO_TRY(cancel.check());
  RECLO_ASSIGN_OR_RETURN(std::unique_ptr<ObjectStore> store, options.url.starts_with(kS3Scheme)
                                                                 ? open_s3(options)
                                                                 : open_folder(options));
  const StoreLimits limits{.upload_bytes_per_second = options.upload_limit_bytes_per_second,
                           .download_bytes_per_second = options.download_limit_bytes_per_second,
                           .requests_per_second = options.request_limit_per_second};
  if (limits.upload_bytes_per_second == 0 && limits.download_bytes_per_second == 0 &&
      limits.requests_per_second == 0)
    return store;
  return std::unique_ptr<ObjectStore>(std::make_unique<LimitedStore>(std::move(store), limits));
}

}  // namespace reclo::store
