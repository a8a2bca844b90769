#include <fmt/format.h>
#include <stdlib.h>

#include <cerrno>

#include "disk/image_format.h"
#include "disk/image_references.h"
#include "disk/nbd_source.h"
#include "disk/raw_source.h"

namespace reclo::disk {

Result<std::unique_ptr<BlockSource>> open_source(const std::string& path, const CancelToken& cancel,
                                                 const std::string& format) {
  if (!format.empty() && !is_image_format(format))
    return Error(
        Code::kInvalidArgument,
        fmt::format("unknown disk format '{}': raw, qcow2, vpc, vhdx and vmdk are known", format));
  RECLO_ASSIGN_OR_RETURN(std::unique_ptr<RawSource> raw, RawSource::open(path));
  std::string found = format;
  if (found.empty() && raw->is_device()) found = "raw";
  if (found.empty()) {
    const Readable file{raw->size_bytes(), [&](uint64_t offset_bytes, MutableByteSpan out) {
                          return raw->read_at(offset_bytes, out);
                        }};
    RECLO_ASSIGN_OR_RETURN(found, detect_image_format(file));
  }
  if (found == "raw") return std::unique_ptr<BlockSource>(std::move(raw));

  // An absolute path: QEMU would take "a:b" for a protocol.
  const std::unique_ptr<char, void (*)(void*)> real(::realpath(path.c_str(), nullptr), ::free);
  if (!real) return Error::from_errno(errno, "find " + path);
  RECLO_TRY(check_image_references(real.get(), found, cancel));
  RECLO_ASSIGN_OR_RETURN(std::unique_ptr<NbdSource> nbd,
                         NbdSource::open(real.get(), path, found, cancel));
  return std::unique_ptr<BlockSource>(std::move(nbd));
}

}  // namespace reclo::disk
