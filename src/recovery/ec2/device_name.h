// What EC2 calls an image's disks. Any thread.
#pragma once

#include <cstdint>
#include <string>

namespace reclo::recovery {

/// /dev/xvda … xvdz, then xvdba … xvdcz: enough for kDisksPerServerMax. The guest sees NVMe disks
/// whatever this says.
inline std::string device_name(uint32_t disk) {
  std::string name = "/dev/xvd";
  if (disk >= 26) name.push_back(static_cast<char>('a' + disk / 26));
  name.push_back(static_cast<char>('a' + disk % 26));
  return name;
}

}  // namespace reclo::recovery
