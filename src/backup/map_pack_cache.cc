#include "backup/map_pack_cache.h"

#include <sys/stat.h>

#include <algorithm>

#include "base/limits.h"
#include "base/log.h"
#include "crypto/hash.h"
#include "os/file.h"

namespace reclo::backup {
namespace {

constexpr std::string_view kMagic = "RCLOMAPC";
constexpr size_t kHeaderSizeBytes = 16;
constexpr size_t kBlockSizeBytes = 16 * kKiB;
constexpr size_t kChecksumSizeBytes = 8;

// Bound to the pack's name and the block's place: files that were swapped are noticed too.
Bytes block_checksum(const std::string& key, uint64_t block_index, ByteSpan block) {
  Bytes message = to_bytes(key);
  ByteWriter out(message);
  out.u64(block_index);
  out.raw(block);
  const auto digest = crypto::sha256(message);
  return to_bytes(ByteSpan(digest).first(kChecksumSizeBytes));
}

Bytes encode_file(const std::string& key, ByteSpan pack) {
  Bytes file;
  file.reserve(kHeaderSizeBytes + pack.size() + pack.size() / kBlockSizeBytes * kChecksumSizeBytes);
  ByteWriter out(file);
  out.raw(as_bytes(kMagic));
  out.u64(pack.size());
  for (size_t at = 0; at < pack.size(); at += kBlockSizeBytes)
    out.raw(block_checksum(key, at / kBlockSizeBytes,
                           pack.subspan(at, std::min(kBlockSizeBytes, pack.size() - at))));
  out.raw(pack);
  return file;
}

}  // namespace

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
  if (kept.ok()) kept = os::write_file_durably(path_of(key), encode_file(key, pack));
  if (!kept.ok()) log_debug("a map pack is not cached: {}", kept.error().message());
  evict();
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

Result<Bytes> MapPackCache::read_cached(const std::string& key, store::ByteRange range) const {
  const Error damaged(Code::kCorruption, "the cached copy of " + key + " is damaged");
  RECLO_ASSIGN_OR_RETURN(const os::Fd fd, os::open_file(path_of(key), os::OpenMode::kRead));
  Bytes header(kHeaderSizeBytes);
  RECLO_TRY(os::read_at(fd, 0, header));
  const auto pack_size = load_le<uint64_t>(header.data() + kMagic.size());
  if (as_text(ByteSpan(header).first(kMagic.size())) != kMagic || pack_size > kPackSizeBytesMax ||
      range.offset_bytes > pack_size || range.size_bytes > pack_size - range.offset_bytes)
    return damaged;
  const uint64_t first = range.offset_bytes / kBlockSizeBytes;
  const uint64_t end = divide_up(range.offset_bytes + range.size_bytes, kBlockSizeBytes);
  const uint64_t table_size = divide_up(pack_size, kBlockSizeBytes) * kChecksumSizeBytes;
  Bytes checksums((end - first) * kChecksumSizeBytes);
  RECLO_TRY(os::read_at(fd, kHeaderSizeBytes + first * kChecksumSizeBytes, checksums));
  const uint64_t start_bytes = first * kBlockSizeBytes;
  Bytes blocks(std::min(end * kBlockSizeBytes, pack_size) - start_bytes);
  RECLO_TRY(os::read_at(fd, kHeaderSizeBytes + table_size + start_bytes, blocks));
  for (uint64_t i = first; i < end; ++i) {
    const size_t at = (i - first) * kBlockSizeBytes;
    const ByteSpan block =
        ByteSpan(blocks).subspan(at, std::min(kBlockSizeBytes, blocks.size() - at));
    const ByteSpan expected =
        ByteSpan(checksums).subspan((i - first) * kChecksumSizeBytes, kChecksumSizeBytes);
    if (block_checksum(key, i, block) != to_bytes(expected)) return damaged;
  }
  return to_bytes(ByteSpan(blocks).subspan(range.offset_bytes - start_bytes, range.size_bytes));
}

Result<Bytes> MapPackCache::get_range(const std::string& key, store::ByteRange range,
                                      const CancelToken& cancel) {
  if (auto cached = read_cached(key, range); cached.ok()) return cached;
  std::lock_guard lock(fetch_mutex_);
  if (auto cached = read_cached(key, range); cached.ok()) return cached;  // by another thread
  RECLO_ASSIGN_OR_RETURN(const Bytes pack, base_.get(key, kPackSizeBytesMax, cancel));
  keep(key, pack);
  if (range.offset_bytes > pack.size() || range.size_bytes > pack.size() - range.offset_bytes)
    return Error(Code::kCorruption, key + " is cut off");
  return to_bytes(ByteSpan(pack).subspan(range.offset_bytes, range.size_bytes));
}

}  // namespace reclo::backup
