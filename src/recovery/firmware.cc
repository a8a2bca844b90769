#include "recovery/firmware.h"

#include <libnbd.h>

#include <memory>

#include "disk/boot_layout.h"
#include "os/file.h"

namespace reclo::recovery {
namespace {

struct CloseHandle {
  void operator()(nbd_handle* handle) const { nbd_close(handle); }
};

Error nbd_failed(const std::string& socket) {
  const char* why = nbd_get_error();
  return Error(Code::kIo,
               "read " + socket + ": " + (why != nullptr ? why : "the NBD client failed"));
}

}  // namespace

Result<Firmware> detect_firmware(const std::string& nbd_socket) {
  const std::unique_ptr<nbd_handle, CloseHandle> handle(nbd_create());
  if (handle == nullptr || nbd_connect_unix(handle.get(), nbd_socket.c_str()) != 0)
    return nbd_failed(nbd_socket);
  const int64_t size_bytes = nbd_get_size(handle.get());
  if (size_bytes < 0) return nbd_failed(nbd_socket);
  disk::Readable readable;
  readable.size_bytes = static_cast<uint64_t>(size_bytes);
  readable.read_at = [&](uint64_t offset_bytes, MutableByteSpan out) -> Status {
    if (nbd_pread(handle.get(), out.data(), out.size(), offset_bytes, 0) != 0)
      return nbd_failed(nbd_socket);
    return {};
  };
  RECLO_ASSIGN_OR_RETURN(const disk::BootLayout layout, disk::find_boot_layout(readable));
  ignore_error(nbd_shutdown(handle.get(), 0) == 0 ? ok_status() : nbd_failed(nbd_socket),
               "all that was wanted has been read");
  return layout.needs_uefi() ? Firmware::kUefi : Firmware::kBios;
}

Result<UefiFiles> find_uefi_files() {
  static constexpr std::pair<const char*, const char*> kPlaces[] = {
      {"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
      {"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
      {"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"},
  };
  for (const auto& [code, vars] : kPlaces)
    if (os::path_exists(code) && os::path_exists(vars)) return UefiFiles{code, vars};
  return Error(Code::kNotFound,
               "this disk starts by UEFI, and QEMU's UEFI firmware is not installed: install the "
               "package ovmf");
}

}  // namespace reclo::recovery
