// Something of a known size that can be read at any address: what the parsers of this module take,
// so that they work on a disk, a part of one, a recovered image or a fuzzer's bytes alike.
//
// Thread rule: as safe as the function inside; the parsers call it from one thread.
#pragma once

#include <cstdint>
#include <functional>

#include "base/bytes.h"
#include "base/result.h"

namespace reclo::disk {

struct Readable {
  uint64_t size_bytes = 0;
  std::function<Status(uint64_t offset_bytes, MutableByteSpan out)> read_at;

  /// A window into this one, clipped to its end. Holds a copy of the function.
  Readable part(uint64_t offset_bytes, uint64_t part_size_bytes) const;
};

inline Readable Readable::part(uint64_t offset_bytes, uint64_t part_size_bytes) const {
  if (offset_bytes > size_bytes) offset_bytes = size_bytes;
  Readable out;
  out.size_bytes =
      part_size_bytes < size_bytes - offset_bytes ? part_size_bytes : size_bytes - offset_bytes;
  out.read_at = [whole = read_at, offset_bytes](uint64_t at, MutableByteSpan bytes) {
    return whole(offset_bytes + at, bytes);
  };
  return out;
}

}  // namespace reclo::disk
