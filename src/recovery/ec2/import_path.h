// VM Import as the last resort, where the EBS direct APIs cannot be used: a disk as a VHD in S3,
// ImportSnapshot, and the object removed again.
//
//   exported ─▶ uploaded ─▶ import asked for ─▶ imported ─▶ object removed
//
// Each arrow is noted durably before the next begins. The VHD appears under its name when it is
// whole; a multipart upload that was cut is aborted and begun anew; ImportSnapshot has a client
// token. Slow: AWS downloads and converts for minutes. One thread.
#pragma once

#include <functional>
#include <string>

#include "store/s3_upload.h"

namespace reclo::recovery {

struct FailoverBench;
struct FailoverDisk;

struct ImportTools {
  /// Writes the disk as a VHD file of that name.
  std::function<Status(uint32_t disk, const std::string& path, ProgressSink& progress,
                       const CancelToken& cancel)>
      export_vhd;
  std::shared_ptr<store::S3Client> bucket;
};

/// Brings the disk to a completed snapshot. Errors: kIo when EC2 could not import it.
Status import_disk(FailoverBench& bench, FailoverDisk& disk);
/// Ends what goes on, and removes the object and what was uploaded of it. `bucket` may be null when
/// nothing was.
Status remove_import(FailoverBench& bench, FailoverDisk& disk, store::S3Client* bucket);

}  // namespace reclo::recovery
