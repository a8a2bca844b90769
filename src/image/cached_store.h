// A bounded on-disk cache of pack bytes in front of a slow store: what was fetched once is there
// again after a restart, for any number of processes that share the folder.
//
// Packs never change, so a cached block is right for ever. It holds ciphertext exactly as stored:
// the folder needs no protection, and damage in it is found like damage anywhere, when a chunk or
// node is opened. Then the caller asks again under a CacheRefresh, which fetches and replaces.
// Whole blocks are fetched: a neighbour of what was read is mostly wanted next.
//
// Files: FOLDER/<object key, '/' as '~'>~<block number>, made by rename; no fsync (what a crash
// leaves is checked like everything else). Least recently used blocks go first.
// Thread rule: as ObjectStore.
#pragma once

#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>

#include "base/units.h"
#include "store/object_store.h"

namespace reclo::image {

inline constexpr uint64_t kCacheBlockSizeBytes = 512 * kKiB;

/// While one exists, reads by this thread take nothing from a cache: they fetch and replace.
class CacheRefresh {
 public:
  CacheRefresh();
  ~CacheRefresh();
  CacheRefresh(const CacheRefresh&) = delete;
  CacheRefresh& operator=(const CacheRefresh&) = delete;
  static bool active();
};

struct CacheCounters {
  uint64_t hits = 0;    // blocks
  uint64_t misses = 0;  // blocks
  uint64_t evictions = 0;
};

class CachedStore final : public store::ObjectStore {
 public:
  /// Makes the folder if missing. `inner` must outlive this.
  static Result<std::unique_ptr<CachedStore>> open(store::ObjectStore& inner,
                                                   const std::string& folder,
                                                   uint64_t size_bytes_max);

  Status put_if_absent(const std::string& key, ByteSpan content,
                       const CancelToken& cancel) override;
  Result<Bytes> get(const std::string& key, uint64_t size_bytes_max,
                    const CancelToken& cancel) override;
  Result<Bytes> get_range(const std::string& key, store::ByteRange range,
                          const CancelToken& cancel) override;
  Result<store::ObjectInfo> stat(const std::string& key, const CancelToken& cancel) override;
  Status list(const std::string& prefix,
              const std::function<Status(const store::ObjectInfo&)>& visit,
              const CancelToken& cancel) override;
  Result<std::vector<std::string>> list_children(const std::string& prefix,
                                                 const CancelToken& cancel) override;
  Status remove(const std::string& key, const CancelToken& cancel) override;
  store::StoreCounters counters() const override { return inner_.counters(); }
  std::string description() const override { return inner_.description(); }

  CacheCounters cache_counters() const;

 private:
  struct Entry {
    std::string name;
    uint64_t size_bytes = 0;
  };

  CachedStore(store::ObjectStore& inner, std::string folder, uint64_t size_bytes_max);
  Status load();

  Result<Bytes> get_blocks(const std::string& key, store::ByteRange range,
                           const CancelToken& cancel);
  /// Copies the wanted part of a cached block to `out`; false when it is not (wholly) there.
  bool read_cached(const std::string& name, uint64_t offset_in_block, MutableByteSpan out);
  /// Makes blocks from `first` on ours to fetch: as many up to `end` as are missing and nobody
  /// fetches. Waits while somebody fetches the first one; then it may be there: 0.
  Result<uint64_t> claim(const std::string& key, uint64_t first, uint64_t end,
                         const CancelToken& cancel);
  void release(const std::string& key, uint64_t first, uint64_t end);
  /// The bytes of blocks [first, end), as far as the object goes, in one request.
  Result<Bytes> fetch_blocks(const std::string& key, uint64_t first, uint64_t end,
                             uint64_t needed_end_bytes, const CancelToken& cancel);
  void keep(const std::string& name, ByteSpan content);
  void note_use(const std::string& name, uint64_t size_bytes);
  void forget(const std::string& name);
  std::string path_of(const std::string& name) const;

  store::ObjectStore& inner_;
  const std::string folder_;
  const uint64_t size_bytes_max_;
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  std::list<Entry> recent_;  // most recently used first
  std::unordered_map<std::string, std::list<Entry>::iterator> index_;
  std::unordered_map<std::string, uint64_t> object_sizes_;  // of objects shorter than a full block
  std::set<std::string> in_flight_;  // names of blocks that somebody is fetching
  uint64_t used_bytes_ = 0;
  CacheCounters cache_counters_;
  bool complained_ = false;
};

}  // namespace reclo::image
