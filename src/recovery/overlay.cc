#include "recovery/overlay.h"

#include <fmt/format.h>

#include <array>
#include <vector>

#include "base/units.h"
#include "os/file.h"
#include "os/subprocess.h"

namespace reclo::recovery {
namespace {

// QEMU's docs/interop/qcow2.txt: big-endian magic, version, backing file offset … size.
constexpr uint32_t kMagic = 0x514649fb;
constexpr size_t kBackingOffsetAt = 8;
constexpr size_t kSizeAt = 24;
constexpr size_t kHeaderSizeBytes = 32;

template <class T>
T load_be(const uint8_t* from) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value = static_cast<T>((value << 8) | from[i]);
  return value;
}

// What make_overlay() asks for, and what overlay_is_complete() therefore has to understand.
constexpr uint32_t kClusterBits = 16;
constexpr uint64_t kClusterSizeBytes = uint64_t{1} << kClusterBits;
constexpr uint64_t kL2EntrySizeBytes = 8;
constexpr uint64_t kClustersPerL2 = kClusterSizeBytes / kL2EntrySizeBytes;
constexpr uint64_t kReadsAsZeros = 1;
constexpr uint64_t kDirtyFeature = 1;  // lazy refcounts in use: says nothing about the mapping
constexpr uint64_t kOffsetMask = 0x00fffffffffffe00;
constexpr uint32_t kL1EntriesMax = 4 * 1024 * 1024;  // QEMU's own limit is 32 MiB of table

struct Tables {
  uint64_t size_bytes = 0;
  std::vector<uint64_t> l2_offsets;
};

Result<Tables> read_tables(const os::Fd& fd, const std::string& path) {
  std::array<uint8_t, 104> header{};
  RECLO_TRY_WITH(os::read_at(fd, 0, header), path);
  const uint8_t* at = header.data();
  if (load_be<uint32_t>(at) != kMagic)
    return Error(Code::kCorruption, fmt::format("{} is not a qcow2 file any more", path));
  if (load_be<uint32_t>(at + 4) != 3 || load_be<uint32_t>(at + 20) != kClusterBits ||
      (load_be<uint64_t>(at + 72) & ~kDirtyFeature) != 0)
    return Error(Code::kUnsupported, fmt::format("{} is not laid out as an overlay of ours", path));
  Tables tables;
  tables.size_bytes = load_be<uint64_t>(at + kSizeAt);
  const uint32_t l1_entries = load_be<uint32_t>(at + 36);
  const uint64_t needed = divide_up(tables.size_bytes, kClusterSizeBytes * kClustersPerL2);
  if (l1_entries > kL1EntriesMax || needed > l1_entries)
    return Error(Code::kCorruption, fmt::format("{}: its first-level table has {} entries for {}",
                                                path, l1_entries, needed));
  Bytes l1(needed * 8);
  RECLO_TRY_WITH(os::read_at(fd, load_be<uint64_t>(at + 40), l1), path);
  for (uint64_t i = 0; i < needed; ++i)
    tables.l2_offsets.push_back(load_be<uint64_t>(l1.data() + i * 8) & kOffsetMask);
  return tables;
}

bool table_is_complete(const Bytes& table, uint64_t disk_bytes_left) {
  for (uint64_t i = 0; i < kClustersPerL2 && disk_bytes_left > 0; ++i) {
    const uint64_t entry = load_be<uint64_t>(table.data() + i * kL2EntrySizeBytes);
    if ((entry & (kOffsetMask | kReadsAsZeros)) == 0) return false;
    disk_bytes_left -= std::min(disk_bytes_left, kClusterSizeBytes);
  }
  return true;
}

}  // namespace

Result<bool> overlay_is_complete(const std::string& path, const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const os::Fd fd, os::open_file(path, os::OpenMode::kRead));
  RECLO_TRY_WITH(os::fsync(fd), path);
  RECLO_ASSIGN_OR_RETURN(const Tables tables, read_tables(fd, path));
  Bytes table(kClusterSizeBytes);
  uint64_t left = tables.size_bytes;
  for (const uint64_t offset : tables.l2_offsets) {
    RECLO_TRY(cancel.check());
    if (offset == 0) return false;
    RECLO_TRY_WITH(os::read_at(fd, offset, table), path);
    if (!table_is_complete(table, left)) return false;
    left -= std::min(left, kClusterSizeBytes * kClustersPerL2);
  }
  return true;
}

Status for_each_held_cluster(const std::string& path,
                             const std::function<Status(uint64_t offset_bytes, ByteSpan)>& take) {
  constexpr uint64_t kCompressed = uint64_t{1} << 62;
  RECLO_ASSIGN_OR_RETURN(const os::Fd fd, os::open_file(path, os::OpenMode::kRead));
  RECLO_ASSIGN_OR_RETURN(const Tables tables, read_tables(fd, path));
  Bytes table(kClusterSizeBytes);
  Bytes cluster(kClusterSizeBytes);
  for (size_t i = 0; i < tables.l2_offsets.size(); ++i) {
    if (tables.l2_offsets[i] == 0) continue;
    RECLO_TRY_WITH(os::read_at(fd, tables.l2_offsets[i], table), path);
    for (uint64_t k = 0; k < kClustersPerL2; ++k) {
      const uint64_t entry = load_be<uint64_t>(table.data() + k * kL2EntrySizeBytes);
      const uint64_t at = (i * kClustersPerL2 + k) * kClusterSizeBytes;
      if ((entry & (kOffsetMask | kReadsAsZeros)) == 0 || at >= tables.size_bytes) continue;
      if ((entry & kCompressed) != 0)
        return Error(Code::kUnsupported, fmt::format("{} holds compressed clusters", path));
      if ((entry & kReadsAsZeros) != 0)
        std::fill(cluster.begin(), cluster.end(), uint8_t{0});
      else
        RECLO_TRY_WITH(os::read_at(fd, entry & kOffsetMask, cluster), path);
      RECLO_TRY(take(at, cluster));
    }
  }
  return {};
}

std::string nbd_url(const std::string& socket_path) {
  std::string out = "nbd+unix:///?socket=";
  for (const char c : socket_path) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_' || c == '.' || c == '/';
    if (plain)
      out += c;
    else
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

Result<OverlayFacts> read_overlay(const std::string& path) {
  RECLO_ASSIGN_OR_RETURN(const os::Fd fd, os::open_file(path, os::OpenMode::kRead));
  std::array<uint8_t, kHeaderSizeBytes> header{};
  RECLO_TRY_WITH(os::read_at(fd, 0, header), path);
  if (load_be<uint32_t>(header.data()) != kMagic)
    return Error(Code::kCorruption, fmt::format("{} is not a qcow2 file any more", path));
  OverlayFacts facts;
  facts.has_base = load_be<uint64_t>(header.data() + kBackingOffsetAt) != 0;
  facts.size_bytes = load_be<uint64_t>(header.data() + kSizeAt);
  return facts;
}

Status make_overlay(const std::string& path, const std::string& base_socket, uint64_t size_bytes,
                    const CancelToken& cancel) {
  if (os::path_exists(path)) {
    RECLO_ASSIGN_OR_RETURN(const OverlayFacts facts, read_overlay(path));
    if (facts.size_bytes == size_bytes) return {};
    return Error(Code::kConflict, fmt::format("{} is there and has {} bytes instead of {}", path,
                                              facts.size_bytes, size_bytes));
  }
  const std::string unfinished =
      os::join_path(os::parent_path(path), std::string(os::kTempPrefix) + os::base_name(path));
  RECLO_TRY(os::remove_file(unfinished));
  // -u: the server need not answer now; the size is ours to say.
  RECLO_TRY(os::run_checked(
      {"qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", nbd_url(base_socket), "-F", "raw",
       "-o", "cluster_size=64k", unfinished, fmt::format("{}", size_bytes)},
      cancel));
  RECLO_ASSIGN_OR_RETURN(const os::Fd fd, os::open_file(unfinished, os::OpenMode::kRead));
  RECLO_TRY(os::fsync(fd));
  return os::rename_durably(unfinished, path);
}

}  // namespace reclo::recovery
