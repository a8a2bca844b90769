#include "disk/signature.h"

#include <blkid/blkid.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>

#include "base/units.h"
#include "os/file.h"

namespace reclo::disk {
namespace {

constexpr uint64_t kHeadSizeBytes = 2 * kMiB + 64 * kKiB;
constexpr uint64_t kTailSizeBytes = kMiB;

Status copy_part(const Readable& volume, uint64_t offset_bytes, uint64_t size_bytes,
                 const os::Fd& to) {
  Bytes buffer(std::min<uint64_t>(size_bytes, kMiB));
  for (uint64_t done = 0; done < size_bytes;) {
    const MutableByteSpan part =
        MutableByteSpan(buffer).first(std::min<uint64_t>(buffer.size(), size_bytes - done));
    RECLO_TRY(volume.read_at(offset_bytes + done, part));
    if (!is_all_zero(part)) RECLO_TRY(os::write_at(to, offset_bytes + done, part));
    done += part.size();
  }
  return {};
}

// The volume's ends in a sparse file in memory, as large as the volume.
Result<os::Fd> copy_ends(const Readable& volume) {
  os::Fd fd(::memfd_create("reclo-signature", MFD_CLOEXEC));
  if (!fd.valid()) return Error::from_errno(errno, "create a file in memory");
  if (::ftruncate(fd.get(), static_cast<off_t>(volume.size_bytes)) != 0)
    return Error::from_errno(errno, "size a file in memory");
  const uint64_t head_size_bytes = std::min(volume.size_bytes, kHeadSizeBytes);
  RECLO_TRY(copy_part(volume, 0, head_size_bytes, fd));
  const uint64_t tail_start =
      std::max(head_size_bytes, volume.size_bytes - std::min(volume.size_bytes, kTailSizeBytes));
  RECLO_TRY(copy_part(volume, tail_start, volume.size_bytes - tail_start, fd));
  return fd;
}

std::string lookup(blkid_probe probe, const char* name) {
  const char* data = nullptr;
  size_t size_bytes = 0;
  if (blkid_probe_lookup_value(probe, name, &data, &size_bytes) != 0 || data == nullptr) return "";
  return std::string(data, ::strnlen(data, std::min<size_t>(size_bytes, 256)));
}

// The words of DESIGN's readers, where libblkid has longer ones.
std::string short_kind(const std::string& type) {
  static const std::map<std::string, std::string> kShort = {{"LVM2_member", "lvm"},
                                                            {"LVM1_member", "lvm"},
                                                            {"crypto_LUKS", "luks"},
                                                            {"linux_raid_member", "mdraid"},
                                                            {"iso9660", "iso"}};
  const auto found = kShort.find(type);
  return found == kShort.end() ? type : found->second;
}

}  // namespace

Result<Signature> find_signature(const Readable& volume) {
  Signature out;
  if (volume.size_bytes < 1024) return out;
  RECLO_ASSIGN_OR_RETURN(const os::Fd fd, copy_ends(volume));
  const std::unique_ptr<struct blkid_struct_probe, void (*)(blkid_probe)> probe(blkid_new_probe(),
                                                                                blkid_free_probe);
  if (!probe) return Error(Code::kResourceExhausted, "no memory to look for file systems");
  blkid_probe_enable_superblocks(probe.get(), 1);
  blkid_probe_set_superblocks_flags(probe.get(),
                                    BLKID_SUBLKS_LABEL | BLKID_SUBLKS_UUID | BLKID_SUBLKS_TYPE);
  blkid_probe_enable_partitions(probe.get(), 0);
  if (blkid_probe_set_device(probe.get(), fd.get(), 0, 0) != 0)
    return Error(Code::kInternal, "libblkid does not take a file in memory");
  const int found = blkid_do_safeprobe(probe.get());
  if (found == -2) out.kind = "ambiguous";
  if (found == 0) {
    out.kind = short_kind(lookup(probe.get(), "TYPE"));
    out.label = lookup(probe.get(), "LABEL");
    out.uuid = lookup(probe.get(), "UUID");
  }
  if (found == 0 || found == -2 || volume.size_bytes < 4096) return out;
  // libblkid follows an NTFS boot sector to a place that was not copied.
  uint8_t boot[16] = {};
  RECLO_TRY(volume.read_at(0, boot));
  if (as_text(ByteSpan(boot).subspan(3, 8)) == "NTFS    ") out.kind = "ntfs";
  return out;
}

}  // namespace reclo::disk
