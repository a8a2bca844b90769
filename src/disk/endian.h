// Big-endian loads: disk image headers and ext4's journal are written that way.
#pragma once

#include <cstddef>
#include <cstdint>

namespace reclo::disk {

template <class T>
T load_be(const uint8_t* from) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value = static_cast<T>((value << 8) | from[i]);
  return value;
}

}  // namespace reclo::disk
