// A file into a bucket that is no repository's: overwritten when it is there, in parts when it is
// large. Not an ObjectStore: nothing here is write-once.
//
// The caller notes the upload's id durably before upload_file(), so that the parts of an upload
// that was cut can be thrown away: S3 keeps and bills them until then. Safe from any thread.
#pragma once

#include <memory>
#include <string>

#include "base/progress.h"
#include "store/open_store.h"
#include "store/s3_client.h"

namespace reclo::store {

/// A client for `bucket`, with the endpoint, region and style that `options` say for S3; its url is
/// not looked at. (In open_store.cc.)
Result<std::unique_ptr<S3Client>> open_bucket(const StoreOptions& options,
                                              const std::string& bucket);

bool needs_multipart(uint64_t size_bytes);
/// Returns the upload's id.
Result<std::string> begin_upload(S3Client& client, const std::string& key,
                                 const CancelToken& cancel);
/// `upload_id`: of begin_upload(), or empty for one PUT. Four parts of 32 MiB at once (more for
/// files above 290 GiB).
Status upload_file(S3Client& client, const std::string& key, const std::string& upload_id,
                   const std::string& path, ProgressSink& progress, const CancelToken& cancel);
/// What is gone already is success, here and below.
Status abort_upload(S3Client& client, const std::string& key, const std::string& upload_id,
                    const CancelToken& cancel);
Status delete_object(S3Client& client, const std::string& key, const CancelToken& cancel);

}  // namespace reclo::store
