#include "image/cached_store.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "base/encoding.h"
#include "base/log.h"
#include "os/file.h"
#include "os/random.h"

namespace reclo::image {
namespace {

constexpr uint64_t kRequestBlocksMax = 16;
constexpr unsigned kBroughtMax = 64;  // within one read
constexpr size_t kObjectSizesMax = 100'000;
constexpr auto kStaleTempAge = std::chrono::hours(1);

thread_local int refresh_depth = 0;

bool is_pack(const std::string& key) { return key.find("/packs/") != std::string::npos; }

std::string block_name(const std::string& key, uint64_t block) {
  std::string name = key;
  std::ranges::replace(name, '/', '~');
  return fmt::format("{}~{}", name, block);
}

}  // namespace

CacheRefresh::CacheRefresh() { ++refresh_depth; }
CacheRefresh::~CacheRefresh() { --refresh_depth; }
bool CacheRefresh::active() { return refresh_depth > 0; }

CachedStore::CachedStore(store::ObjectStore& inner, std::string folder, uint64_t size_bytes_max)
    : inner_(inner), folder_(std::move(folder)), size_bytes_max_(size_bytes_max) {}

Result<std::unique_ptr<CachedStore>> CachedStore::open(store::ObjectStore& inner,
                                                       const std::string& folder,
                                                       uint64_t size_bytes_max) {
  RECLO_TRY_WITH(os::make_directories(folder), "making the cache folder");
  std::unique_ptr<CachedStore> store(new CachedStore(inner, folder, size_bytes_max));
  RECLO_TRY_WITH(store->load(), "reading the cache folder");
  return store;
}

std::string CachedStore::path_of(const std::string& name) const {
  return os::join_path(folder_, name);
}

Status CachedStore::load() {
  RECLO_ASSIGN_OR_RETURN(const auto names, os::list_directory(folder_));
  struct Found {
    int64_t modified_s;
    Entry entry;
  };
  std::vector<Found> found;
  const auto stale_before_s =
      std::chrono::system_clock::to_time_t(std::chrono::system_clock::now() - kStaleTempAge);
  for (const std::string& name : names) {
    struct stat info{};
    if (::stat(path_of(name).c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
    if (name.starts_with(os::kTempPrefix)) {
      if (info.st_mtime < stale_before_s)
        ignore_error(os::remove_file(path_of(name)), "a leftover in a cache");
      continue;
    }
    // Other files in the folder (a boot set) are not ours to evict.
    if (name.find('~') == std::string::npos) continue;
    found.push_back({info.st_mtime, {name, static_cast<uint64_t>(info.st_size)}});
  }
  std::ranges::sort(found,
                    [](const Found& a, const Found& b) { return a.modified_s < b.modified_s; });
  for (Found& one : found) note_use(one.entry.name, one.entry.size_bytes);
  return {};
}

CacheCounters CachedStore::cache_counters() const {
  const std::lock_guard lock(mutex_);
  return cache_counters_;
}

bool CachedStore::read_cached(const std::string& name, uint64_t offset_in_block,
                              MutableByteSpan out) {
  const auto fd = os::open_file(path_of(name), os::OpenMode::kRead);
  if (!fd.ok()) {
    forget(name);
    return false;
  }
  struct stat info{};
  if (::fstat(fd->get(), &info) != 0 || !os::read_at(*fd, offset_in_block, out).ok()) {
    ignore_error(os::remove_file(path_of(name)), "it is fetched and kept again");
    forget(name);
    return false;
  }
  note_use(name, static_cast<uint64_t>(info.st_size));
  const std::lock_guard lock(mutex_);
  ++cache_counters_.hits;
  return true;
}

// Also takes in what another process cached, and makes room.
void CachedStore::note_use(const std::string& name, uint64_t size_bytes) {
  std::vector<std::string> evicted;
  {
    const std::lock_guard lock(mutex_);
    const auto found = index_.find(name);
    if (found != index_.end()) {
      used_bytes_ += size_bytes - found->second->size_bytes;
      found->second->size_bytes = size_bytes;
      recent_.splice(recent_.begin(), recent_, found->second);
    } else {
      recent_.push_front({name, size_bytes});
      index_[name] = recent_.begin();
      used_bytes_ += size_bytes;
    }
    while (used_bytes_ > size_bytes_max_ && recent_.size() > 1) {
      used_bytes_ -= recent_.back().size_bytes;
      evicted.push_back(recent_.back().name);
      index_.erase(recent_.back().name);
      recent_.pop_back();
      ++cache_counters_.evictions;
    }
  }
  for (const std::string& old : evicted)
    ignore_error(os::remove_file(path_of(old)), "another process may have evicted it, too");
}

void CachedStore::forget(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const auto found = index_.find(name);
  // Another thread may have brought it since it was missed.
  if (found == index_.end() || os::path_exists(path_of(name))) return;
  used_bytes_ -= found->second->size_bytes;
  recent_.erase(found->second);
  index_.erase(found);
}

void CachedStore::keep(const std::string& name, ByteSpan content) {
  uint8_t random[8];
  os::fill_random(random);
  const std::string temp = path_of(std::string(os::kTempPrefix) + to_hex(random));
  Status status;
  if (auto fd = os::open_file(temp, os::OpenMode::kCreate); fd.ok()) {
    status = os::write_all(*fd, content);
  } else {
    status = fd.error();
  }
  if (status.ok() && ::rename(temp.c_str(), path_of(name).c_str()) != 0)
    status = Error::from_errno(errno, "rename " + temp);
  if (status.ok()) {
    note_use(name, content.size());
    return;
  }
  ignore_error(os::remove_file(temp), "the cache is best effort");
  const std::lock_guard lock(mutex_);
  if (!complained_)
    log_warning("the cache in {} cannot be written, going on without: {}", folder_,
                status.error().message());
  complained_ = true;
}

Result<uint64_t> CachedStore::claim(const std::string& key, uint64_t first, uint64_t end,
                                    const CancelToken& cancel) {
  std::unique_lock lock(mutex_);
  const std::string name = block_name(key, first);
  if (in_flight_.contains(name)) {
    const auto landed = [&] { return !in_flight_.contains(name); };
    if (const auto deadline = cancel.deadline())
      changed_.wait_until(lock, cancel.stop_token(), *deadline, landed);
    else
      changed_.wait(lock, cancel.stop_token(), landed);
    RECLO_TRY(cancel.check());
    if (in_flight_.contains(name)) return uint64_t{0};
  }
  if (index_.contains(name)) return uint64_t{0};  // brought since it was missed
  uint64_t block = first;
  do {
    in_flight_.insert(block_name(key, block));
    ++cache_counters_.misses;
    ++block;
  } while (block < end && block - first < kRequestBlocksMax &&
           !index_.contains(block_name(key, block)) &&
           !in_flight_.contains(block_name(key, block)));
  return block - first;
}

void CachedStore::release(const std::string& key, uint64_t first, uint64_t end) {
  const std::lock_guard lock(mutex_);
  for (uint64_t block = first; block < end; ++block) in_flight_.erase(block_name(key, block));
  changed_.notify_all();
}

Result<Bytes> CachedStore::fetch_blocks(const std::string& key, uint64_t first, uint64_t end,
                                        uint64_t needed_end_bytes, const CancelToken& cancel) {
  const uint64_t from_bytes = first * kCacheBlockSizeBytes;
  uint64_t to_bytes = end * kCacheBlockSizeBytes;
  {
    const std::lock_guard lock(mutex_);
    const auto known = object_sizes_.find(key);
    if (known != object_sizes_.end()) to_bytes = std::min(to_bytes, known->second);
  }
  to_bytes = std::max(to_bytes, needed_end_bytes);
  auto fetched = inner_.get_range(key, {from_bytes, to_bytes - from_bytes}, cancel);
  if (fetched.ok() || fetched.error().code() != Code::kCorruption || to_bytes == needed_end_bytes)
    return fetched;
  // Most packs are as long as any block that is asked for; this one may end earlier.
  RECLO_ASSIGN_OR_RETURN(const store::ObjectInfo info, inner_.stat(key, cancel));
  if (info.size_bytes < needed_end_bytes || info.size_bytes >= to_bytes) return fetched;
  {
    const std::lock_guard lock(mutex_);
    if (object_sizes_.size() >= kObjectSizesMax) object_sizes_.clear();
    object_sizes_[key] = info.size_bytes;
  }
  return inner_.get_range(key, {from_bytes, info.size_bytes - from_bytes}, cancel);
}

Result<Bytes> CachedStore::get_blocks(const std::string& key, store::ByteRange range,
                                      const CancelToken& cancel) {
  Bytes out(range.size_bytes);
  const uint64_t range_end = range.offset_bytes + range.size_bytes;
  const uint64_t end = divide_up(range_end, kCacheBlockSizeBytes);
  uint64_t at = range.offset_bytes;
  unsigned brought = 0;
  while (at < range_end) {
    const uint64_t block = at / kCacheBlockSizeBytes;
    const uint64_t offset_in_block = at % kCacheBlockSizeBytes;
    const uint64_t part = std::min(range_end - at, kCacheBlockSizeBytes - offset_in_block);
    const MutableByteSpan rest = MutableByteSpan(out).subspan(at - range.offset_bytes);
    const bool refresh = CacheRefresh::active();
    if (!refresh && read_cached(block_name(key, block), offset_in_block, rest.first(part))) {
      at += part;
      continue;
    }
    uint64_t count = 0;
    if (!refresh) {
      RECLO_ASSIGN_OR_RETURN(count, claim(key, block, end, cancel));
      // Somebody else brought it, unless the file cannot be read at all.
      if (count == 0 && ++brought <= kBroughtMax) continue;
    }
    const bool claimed = count > 0;
    if (!claimed) count = std::min(end - block, kRequestBlocksMax);
    const uint64_t piece_end = std::min(range_end, (block + count) * kCacheBlockSizeBytes);
    const auto fetched = fetch_blocks(key, block, block + count, piece_end, cancel);
    if (fetched.ok()) {
      for (uint64_t i = 0; i * kCacheBlockSizeBytes < fetched->size(); ++i) {
        const ByteSpan tail = ByteSpan(*fetched).subspan(i * kCacheBlockSizeBytes);
        keep(block_name(key, block + i), tail.first(std::min(tail.size(), kCacheBlockSizeBytes)));
      }
    }
    if (claimed) release(key, block, block + count);
    if (!fetched.ok()) return fetched.error();
    std::ranges::copy(ByteSpan(*fetched).subspan(offset_in_block, piece_end - at), rest.begin());
    at = piece_end;
  }
  return out;
}

Result<Bytes> CachedStore::get_range(const std::string& key, store::ByteRange range,
                                     const CancelToken& cancel) {
  RECLO_TRY(store::check_range(key, range));
  if (!is_pack(key)) return inner_.get_range(key, range, cancel);
  return get_blocks(key, range, cancel);
}

Status CachedStore::put_if_absent(const std::string& key, ByteSpan content,
                                  const CancelToken& cancel) {
  return inner_.put_if_absent(key, content, cancel);
}

Result<Bytes> CachedStore::get(const std::string& key, uint64_t size_bytes_max,
                               const CancelToken& cancel) {
  return inner_.get(key, size_bytes_max, cancel);
}

Result<store::ObjectInfo> CachedStore::stat(const std::string& key, const CancelToken& cancel) {
  return inner_.stat(key, cancel);
}

Status CachedStore::list(const std::string& prefix,
                         const std::function<Status(const store::ObjectInfo&)>& visit,
                         const CancelToken& cancel) {
  return inner_.list(prefix, visit, cancel);
}

Result<std::vector<std::string>> CachedStore::list_children(const std::string& prefix,
                                                            const CancelToken& cancel) {
  return inner_.list_children(prefix, cancel);
}

Status CachedStore::remove(const std::string& key, const CancelToken& cancel) {
  return inner_.remove(key, cancel);
}

}  // namespace reclo::image
