// Who uses a block device or an image file on this machine right now.
// Thread-safe; the answer is as old as the call (opening with O_EXCL closes the gap for devices).
#pragma once

#include <optional>
#include <string>

#include "base/result.h"

namespace reclo::disk {

/// "sdb1 is mounted on /srv", "used by md0", "sdb2 is swap", "backs /dev/loop0"; nothing when the
/// device (its partitions included) or file is not in use. Errors: `path` cannot be looked at.
Result<std::optional<std::string>> who_uses(const std::string& path);

}  // namespace reclo::disk
