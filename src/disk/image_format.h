// Which disk image format a file has, by its headers.
//
// A raw disk's content is written by the server inside it, so a magic number alone proves nothing:
// each format's header must be consistent in itself and with the file's size. What does not pass is
// raw. All input is bounded to a few fixed-size reads. Thread-safe.
#pragma once

#include <string>

#include "disk/readable.h"

namespace reclo::disk {

/// "raw", "qcow2", "vpc" (VHD), "vhdx" or "vmdk": QEMU's names. Errors: reading failed.
Result<std::string> detect_image_format(const Readable& file);

/// Whether `format` is one of those names.
bool is_image_format(const std::string& format);

}  // namespace reclo::disk
