// Where repository objects live: a folder, S3, or anything S3-compatible.
//
// The contract every store keeps, and tests/conformance (store/conformance_test_suite.h) checks:
//  1. Write-once: put_if_absent() creates a whole object or nothing; of any number of concurrent
//     callers for one key exactly one succeeds, the others get kAlreadyExists. There is no
//     overwrite.
//  2. After put_if_absent() returned success, every get/stat/list by anyone sees the object, also
//     after a crash or power cut of this machine.
//  3. get() returns exactly the stored bytes or an error, never fewer.
// Object keys: '/'-separated, [A-Za-z0-9._/-], no leading or trailing slash, no empty, "." or ".."
// part, none that starts with ".tmp-" (a folder's files in the making), at most 512 bytes.
// Thread rule: every method may be called from any number of threads at once; each blocks until
// done or until `cancel` fires.
// Errors: kNotFound, kAlreadyExists, kPermissionDenied, kUnauthenticated, kNoSpace, kCorruption
// (the transport delivered other bytes than announced), kUnavailable/kTimeout with retryable().
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/cancel.h"
#include "base/result.h"
#include "base/time.h"

namespace reclo::store {

struct ByteRange {
  uint64_t offset_bytes = 0;
  uint64_t size_bytes = 0;  // > 0
};

struct ObjectInfo {
  std::string key;
  uint64_t size_bytes = 0;
  WallTime modified;  // the store's clock: for people, never for safety
};

/// What the store did so far, for statistics and the bill.
struct StoreCounters {
  uint64_t requests_put = 0;
  uint64_t requests_get = 0;
  uint64_t requests_list = 0;
  uint64_t requests_other = 0;
  uint64_t retries = 0;
  uint64_t sent_bytes = 0;      // payload
  uint64_t received_bytes = 0;  // payload
};

class ObjectStore {
 public:
  virtual ~ObjectStore() = default;

  /// Creates the object. After an ambiguous failure (time-out, 5xx, reset) implementations that
  /// retry must read back and compare: their own earlier attempt may have succeeded.
  virtual Status put_if_absent(const std::string& key, ByteSpan content,
                               const CancelToken& cancel) = 0;
  /// The whole object. Errors: kResourceExhausted when it is larger than `size_bytes_max`.
  virtual Result<Bytes> get(const std::string& key, uint64_t size_bytes_max,
                            const CancelToken& cancel) = 0;
  /// Exactly range.size_bytes bytes. Errors: kCorruption when the object ends before that.
  virtual Result<Bytes> get_range(const std::string& key, ByteRange range,
                                  const CancelToken& cancel) = 0;
  virtual Result<ObjectInfo> stat(const std::string& key, const CancelToken& cancel) = 0;
  /// Calls `visit` for each object whose key starts with `prefix`, in ascending key order; stops at
  /// the first error that `visit` returns and returns it.
  virtual Status list(const std::string& prefix,
                      const std::function<Status(const ObjectInfo&)>& visit,
                      const CancelToken& cancel) = 0;
  /// Names directly below `prefix` (which ends in '/' or is empty): objects and "folders" alike,
  /// without the prefix, folders ending in '/'. Ascending.
  virtual Result<std::vector<std::string>> list_children(const std::string& prefix,
                                                         const CancelToken& cancel) = 0;
  /// Removing what is not there is success.
  virtual Status remove(const std::string& key, const CancelToken& cancel) = 0;

  virtual StoreCounters counters() const = 0;
  /// How the store is named in messages: "s3://bucket/prefix" or a path. No secrets.
  virtual std::string description() const = 0;
};

/// Whether `key` fits the rules above; used by every store before anything else.
Status check_key(const std::string& key);
/// The same for the beginning of keys: may be empty, may end in '/'.
Status check_prefix(const std::string& prefix);
/// A prefix that is empty or ends in '/'.
Status check_folder_prefix(const std::string& prefix);

/// A range of no bytes, or past 2^63, is a caller's mistake.
Status check_range(const std::string& key, ByteRange range);
Error already_exists(const std::string& key);
/// The kCorruption of a get_range() that the object cannot fill.
Error range_past_end(const std::string& key, ByteRange range, uint64_t object_size_bytes);

/// StoreCounters that many threads may raise; for implementations.
struct AtomicCounters {
  std::atomic<uint64_t> requests_put = 0;
  std::atomic<uint64_t> requests_get = 0;
  std::atomic<uint64_t> requests_list = 0;
  std::atomic<uint64_t> requests_other = 0;
  std::atomic<uint64_t> retries = 0;
  std::atomic<uint64_t> sent_bytes = 0;
  std::atomic<uint64_t> received_bytes = 0;

  void add_put(size_t payload_bytes);
  void add_get(size_t payload_bytes);
  StoreCounters snapshot() const;
};

}  // namespace reclo::store
