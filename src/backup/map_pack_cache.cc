#include "backup/map_pack_cache.h"

#include <sys/stat.h>

#include <algorithm>

#include "base/limits.h"
#include "base/log.h"
#include "os/file.h"

namespace reclo::backup {

MapPackCache::MapPackCache(store::ObjectStore& base, std::string folder, uint64_t size_bytes_max)
    : base_(base), folder_(std::move(folder)), size_bytes_max_(size_bytes_max) {}

std::string MapPackCache::path_of(const std::string& key) const {
  // Keys end in <session>/<number>, which names a pack of this machine.
  const size_t slash = key.rfind('/');
  const size_t before = key.rfind('/', slash - 1);
  return os::join_path(folder_,
                       key.substr(before + 1, slash - before - 1) + "-" + key.substr(slash + 1));
}

void MapPackCache::keep(const std::string& key, ByteSpan pack) {
  Status kept = os::make_directories(folder_);
  if (kept.ok()) kept = os::write_file_durably(path_of(key), pack);
  if (!kept.ok()) log_debug("a map pack is not cached: {}", kept.error().message());
  evict();
}

void MapPackCache::forget(const std::string& key) {
  ignore_error(os::remove_file(path_of(key)), "the next read finds it damaged again and says so");
}

void MapPackCache::evict() {
  struct Entry {
    std::string path;
    uint64_t size_bytes;
    int64_t modified;
  };
  const auto names = os::list_directory(folder_);
  if (!names.ok()) return;
  std::vector<Entry> entries;
  uint64_t total = 0;
  for (const std::string& name : *names) {
    const std::string path = os::join_path(folder_, name);
    struct stat info{};
    if (::stat(path.c_str(), &info) != 0) continue;
    entries.push_back({path, static_cast<uint64_t>(info.st_size), info.st_mtime});
    total += entries.back().size_bytes;
  }
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.modified < b.modified; });
  for (const Entry& entry : entries) {
    if (total <= size_bytes_max_) break;
    if (os::remove_file(entry.path).ok()) total -= entry.size_bytes;
  }
}

Result<Bytes> MapPackCache::get_range(const std::string& key, store::ByteRange range,
                                      const CancelToken& cancel) {
  const std::string path = path_of(key);
  const auto from_file = [&]() -> Result<Bytes> {
    RECLO_ASSIGN_OR_RETURN(const os::Fd fd, os::open_file(path, os::OpenMode::kRead));
    Bytes out(range.size_bytes);
    RECLO_TRY(os::read_at(fd, range.offset_bytes, out));
    return out;
  };
  if (auto cached = from_file(); cached.ok()) return cached;
  std::lock_guard lock(fetch_mutex_);
  if (auto cached = from_file(); cached.ok()) return cached;  // another thread fetched it
  RECLO_ASSIGN_OR_RETURN(const Bytes pack, base_.get(key, kPackSizeBytesMax, cancel));
  keep(key, pack);
  if (range.offset_bytes + range.size_bytes > pack.size())
    return Error(Code::kCorruption, key + " is cut off");
  return to_bytes(ByteSpan(pack).subspan(range.offset_bytes, range.size_bytes));
}

}  // namespace reclo::backup
