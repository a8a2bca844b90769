// Which other files a disk image pulls in, and whether it may.
//
// A qcow2 file can name any file of this machine as its backing or data file, a VMDK as an extent:
// an image from a stranger (or a raw disk on which a guest wrote such a header) would then carry
// /etc/shadow into the backup. Only regular files in the image's own folder are allowed.
#pragma once

#include <string>

#include "base/cancel.h"
#include "base/result.h"

namespace reclo::disk {

/// Follows the whole chain below `path` (an absolute path), at most kImageChainLengthMax long.
/// Errors: kPermissionDenied names the file referred to; kNotFound when one is missing;
/// kUnsupported for images that qemu-img does not understand.
Status check_image_references(const std::string& path, const std::string& format,
                              const CancelToken& cancel);

inline constexpr int kImageChainLengthMax = 16;

}  // namespace reclo::disk
