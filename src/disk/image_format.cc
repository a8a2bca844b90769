#include "disk/image_format.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/units.h"
#include "disk/endian.h"

namespace reclo::disk {
namespace {

constexpr size_t kSectorSizeBytes = 512;

bool starts_with(ByteSpan bytes, std::string_view magic) {
  return bytes.size() >= magic.size() && as_text(bytes.first(magic.size())) == magic;
}

// docs/interop/qcow2.txt of QEMU, "Header".
bool is_qcow2(ByteSpan head, uint64_t file_size_bytes) {
  if (head.size() < 104 || !starts_with(head, "QFI\xfb")) return false;
  const auto version = load_be<uint32_t>(&head[4]);
  const auto cluster_bits = load_be<uint32_t>(&head[20]);
  if ((version != 2 && version != 3) || cluster_bits < 9 || cluster_bits > 21) return false;
  const uint64_t cluster_size_bytes = uint64_t{1} << cluster_bits;
  const auto l1_offset = load_be<uint64_t>(&head[40]);
  const auto refcount_offset = load_be<uint64_t>(&head[48]);
  const auto backing_size_bytes = load_be<uint32_t>(&head[16]);
  const auto crypt_method = load_be<uint32_t>(&head[32]);
  if (version == 3) {
    const auto header_size_bytes = load_be<uint32_t>(&head[100]);
    if (header_size_bytes < 104 || header_size_bytes > cluster_size_bytes) return false;
  }
  return backing_size_bytes <= 1023 && crypt_method <= 2 && l1_offset % cluster_size_bytes == 0 &&
         refcount_offset % cluster_size_bytes == 0 && refcount_offset != 0 &&
         l1_offset < file_size_bytes && refcount_offset < file_size_bytes;
}

// "Virtual Hard Disk Image Format Specification", "Hard Disk Footer Format".
bool is_vhd_footer(ByteSpan footer, uint64_t file_size_bytes) {
  if (footer.size() < kSectorSizeBytes || !starts_with(footer, "conectix")) return false;
  uint32_t sum = 0;
  for (size_t i = 0; i < kSectorSizeBytes; ++i)
    if (i < 64 || i >= 68) sum += footer[i];
  if (~sum != load_be<uint32_t>(&footer[64])) return false;
  const auto kind = load_be<uint32_t>(&footer[60]);
  const auto current_size_bytes = load_be<uint64_t>(&footer[48]);
  if (kind == 2)  // fixed: the disk's bytes, then the footer
    return current_size_bytes <= file_size_bytes &&
           file_size_bytes - current_size_bytes <= kMiB + kSectorSizeBytes;
  return kind == 3 || kind == 4;
}

// The first line of a text descriptor (Virtual Disk Format 5.0, "The Descriptor File").
bool is_vmdk_descriptor(ByteSpan head, uint64_t file_size_bytes) {
  if (!starts_with(head, "# Disk DescriptorFile") || file_size_bytes > kMiB) return false;
  return as_text(head).find("createType") != std::string_view::npos;
}

// "SparseExtentHeader", little-endian.
bool is_vmdk_sparse(ByteSpan head, uint64_t file_size_bytes) {
  if (head.size() < kSectorSizeBytes || !starts_with(head, "KDMV")) return false;
  const auto version = load_le<uint32_t>(&head[4]);
  const auto grain_sectors = load_le<uint64_t>(&head[20]);
  const auto descriptor_sector = load_le<uint64_t>(&head[28]);
  const auto entries_per_table = load_le<uint32_t>(&head[44]);
  const bool power_of_two = grain_sectors >= 1 && (grain_sectors & (grain_sectors - 1)) == 0;
  // These four bytes are there to catch text-mode transfers; a disk would not have them by chance.
  constexpr std::string_view kLineEnds("\n \r\n", 4);
  return version >= 1 && version <= 3 && power_of_two && grain_sectors <= 1024 * 1024 &&
         entries_per_table >= 1 && entries_per_table <= 65536 &&
         descriptor_sector < file_size_bytes / kSectorSizeBytes &&
         as_text(head.subspan(73, 4)) == kLineEnds;
}

// MS-VHDX 2.2: the identifier, two headers at 64 and 128 KiB, two region tables after them.
Result<bool> is_vhdx(ByteSpan head, const Readable& file) {
  if (!starts_with(head, "vhdxfile") || file.size_bytes < kMiB) return false;
  const auto has = [&](uint64_t offset_bytes, std::string_view magic) -> Result<bool> {
    std::array<uint8_t, 4> found{};
    RECLO_TRY(file.read_at(offset_bytes, found));
    return starts_with(found, magic);
  };
  RECLO_ASSIGN_OR_RETURN(const bool head1, has(64 * kKiB, "head"));
  RECLO_ASSIGN_OR_RETURN(const bool head2, has(128 * kKiB, "head"));
  RECLO_ASSIGN_OR_RETURN(const bool region1, has(192 * kKiB, "regi"));
  RECLO_ASSIGN_OR_RETURN(const bool region2, has(256 * kKiB, "regi"));
  return (head1 || head2) && (region1 || region2);
}

}  // namespace

bool is_image_format(const std::string& format) {
  constexpr std::array<std::string_view, 5> kFormats = {"raw", "qcow2", "vpc", "vhdx", "vmdk"};
  return std::find(kFormats.begin(), kFormats.end(), format) != kFormats.end();
}

Result<std::string> detect_image_format(const Readable& file) {
  std::array<uint8_t, 4096> buffer{};
  const MutableByteSpan head =
      MutableByteSpan(buffer).first(std::min<uint64_t>(buffer.size(), file.size_bytes));
  RECLO_TRY(file.read_at(0, head));
  if (is_qcow2(head, file.size_bytes)) return std::string("qcow2");
  RECLO_ASSIGN_OR_RETURN(const bool vhdx, is_vhdx(head, file));
  if (vhdx) return std::string("vhdx");
  if (is_vmdk_sparse(head, file.size_bytes) || is_vmdk_descriptor(head, file.size_bytes))
    return std::string("vmdk");
  if (file.size_bytes < 2 * kSectorSizeBytes) return std::string("raw");
  std::array<uint8_t, kSectorSizeBytes> footer{};
  RECLO_TRY(file.read_at(file.size_bytes - footer.size(), footer));
  // A dynamic VHD has a copy of its footer at the start; a fixed one has only the footer.
  const bool copy_at_start = is_vhd_footer(head, file.size_bytes);
  const bool at_end = is_vhd_footer(footer, file.size_bytes);
  const bool fixed = at_end && load_be<uint32_t>(&footer[60]) == 2;
  if (fixed || (copy_at_start && at_end)) return std::string("vpc");
  return std::string("raw");
}

}  // namespace reclo::disk
