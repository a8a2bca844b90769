// Buffers that the kernel copies to and from at full speed, and that direct I/O accepts.
//
// A read into memory that does not start at a multiple of 64 bytes runs at a quarter of the speed:
// malloc's large blocks start 16 bytes into a page, and the processor's block copy falls back to
// small steps (measured: 3.1 GB out of the page cache cost 1.9 s of CPU, 0.4 s when aligned). Bytes
// stays a plain std::vector: with an allocator of its own it copies byte by byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace reclo {

inline constexpr size_t kAlignmentBytes = 4096;

struct AlignedDelete {
  void operator()(uint8_t* memory) const {
    ::operator delete(memory, std::align_val_t{kAlignmentBytes});
  }
};
/// A fixed buffer at a page boundary.
using AlignedBuffer = std::unique_ptr<uint8_t[], AlignedDelete>;

/// Its content is undefined.
inline AlignedBuffer make_aligned_buffer(size_t size_bytes) {
  return AlignedBuffer(
      static_cast<uint8_t*>(::operator new(size_bytes, std::align_val_t{kAlignmentBytes})));
}

}  // namespace reclo
