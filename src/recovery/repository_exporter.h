// Serves the disks of a recovery point in a ReClo repository: one nbdkit process each
// (image/nbd_export.h). Thread rule: one thread at a time.
#pragma once

#include <map>

#include "base/ids.h"
#include "crypto/secret.h"
#include "recovery/disk_exporter.h"
#include "store/open_store.h"

namespace reclo::recovery {

class RepositoryExporter final : public DiskExporter {
 public:
  /// From what instance.json remembers (source_of()). Errors: kCorruption when something is
  /// missing.
  static Result<RepositoryExporter> open(const std::map<std::string, std::string>& source,
                                         crypto::SecretKey box_secret_key);

  Result<RunningExport> start(const ExportRequest& request, const CancelToken& cancel) override;

 private:
  RepositoryExporter(store::StoreOptions store, MachineId machine, PointId point,
                     crypto::SecretKey key)
      : store_(std::move(store)), machine_(machine), point_(point), key_(std::move(key)) {}

  store::StoreOptions store_;
  MachineId machine_;
  PointId point_;
  crypto::SecretKey key_;
};

/// What RecoverOptions::source has to hold for a later open(): "repository", "s3_endpoint",
/// "s3_region", "s3_path_style", "s3_sha256_checksums", "download_limit_bytes_per_second",
/// "machine", "point". A folder is made absolute. Credentials are not among them: they come from
/// the environment, shared files or the instance's role, at start and at resume.
std::map<std::string, std::string> source_of(const store::StoreOptions& store, MachineId machine,
                                             PointId point);
/// The way back: for commands that resume an instance and must unlock its repository first.
/// Errors: kCorruption.
Result<store::StoreOptions> store_of(const std::map<std::string, std::string>& source);

}  // namespace reclo::recovery
