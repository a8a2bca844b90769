// Which firmware a recovered disk needs, and where QEMU's UEFI lies on this machine. Any thread.
#pragma once

#include <string>

#include "base/cancel.h"
#include "base/result.h"
#include "recovery/qemu_machine.h"

namespace reclo::recovery {

/// Looks at a disk through its NBD socket: BIOS when its first sector has boot code, else UEFI when
/// it has an EFI system partition, else BIOS. Errors: kUnavailable, kIo: the export failed.
Result<Firmware> detect_firmware(const std::string& nbd_socket);

struct UefiFiles {
  std::string code_path;
  std::string vars_template_path;
};
/// Errors: kNotFound with the package that is missing.
Result<UefiFiles> find_uefi_files();

}  // namespace reclo::recovery
