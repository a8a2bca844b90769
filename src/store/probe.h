// Finds out whether a store keeps its promises, before a repository trusts it: several
// S3-compatible services let two writers win the same key.
#pragma once

#include <string>

#include "base/cancel.h"
#include "store/object_store.h"

namespace reclo::store {

struct ProbeReport {
  bool atomic_create = false;   // one winner among concurrent writers, and its bytes stay
  bool list_after_put = false;  // get, stat and list see an object at once
  bool range_read = false;      // exact ranges, and an error past the end
  bool remove = false;          // removed is gone; may be false where deleting is not allowed
  double latency_ms = 0;        // of a small put, the median
  std::string note;             // what failed, for people; empty when nothing did
};

/// Writes, races, reads and removes objects below `key_prefix` ("probe/"), some hundred small
/// requests. Removes what it wrote, also when it fails (unless removing is denied).
/// Errors: only when the store cannot be used at all (unreachable, denied, no bucket); what it does
/// wrong is in the report.
Result<ProbeReport> probe_store(ObjectStore& store, const std::string& key_prefix,
                                const CancelToken& cancel);

}  // namespace reclo::store
