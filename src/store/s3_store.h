// An object store in a bucket of Amazon S3 or an S3-compatible service, below a prefix.
//
// put is one PUT with If-None-Match: *, whose winner the service decides. When a try failed after
// it may have been carried out, and a later one says 412, the object is read back: equal bytes mean
// that it was ours. (Should somebody else have put the very same bytes at the same moment, both
// believe to have won. What ReClo commits by winning a race is signed and never equal by chance.)
// Removing in a bucket with versions leaves a version behind; that is the bucket's policy.
// Thread rule: as ObjectStore.
#pragma once

#include <memory>
#include <string>

#include "store/object_store.h"
#include "store/s3_client.h"

namespace reclo::store {

struct S3StoreOptions {
  S3Options s3;
  std::string prefix;             // without slashes at its ends; may be empty
  bool sha256_checksums = false;  // x-amz-checksum-sha256 instead of Content-MD5
  uint32_t list_page_objects = 1000;
};

class S3Store final : public ObjectStore {
 public:
  /// Makes no request. Errors: kInvalidArgument.
  static Result<std::unique_ptr<S3Store>> open(
      S3StoreOptions options, std::shared_ptr<net::CredentialsProvider> credentials);

  Status put_if_absent(const std::string& key, ByteSpan content,
                       const CancelToken& cancel) override;
  Result<Bytes> get(const std::string& key, uint64_t size_bytes_max,
                    const CancelToken& cancel) override;
  Result<Bytes> get_range(const std::string& key, ByteRange range,
                          const CancelToken& cancel) override;
  Result<ObjectInfo> stat(const std::string& key, const CancelToken& cancel) override;
  Status list(const std::string& prefix, const std::function<Status(const ObjectInfo&)>& visit,
              const CancelToken& cancel) override;
  Result<std::vector<std::string>> list_children(const std::string& prefix,
                                                 const CancelToken& cancel) override;
  Status remove(const std::string& key, const CancelToken& cancel) override;
  StoreCounters counters() const override;
  std::string description() const override;

 private:
  S3Store(S3StoreOptions options, std::shared_ptr<net::CredentialsProvider> credentials);
  std::string full_key(const std::string& key) const { return prefix_ + key; }
  Result<bool> holds(const std::string& key, ByteSpan content, const CancelToken& cancel);
  Status explain_failed_head(const std::string& key, const CancelToken& cancel);

  const S3StoreOptions options_;
  const std::string prefix_;  // empty, or ends in '/'
  S3Client client_;
  AtomicCounters counters_;
};

}  // namespace reclo::store
