// A disk that boots in a second: its boot sector adds one to a byte on the disk (sector 2048), says
// "BOOT <that digit>" on the first serial port, and then reads one new cluster after the other, a
// dot for each ('!' for a failed read). The rest of the disk is a pattern. For tests only.
#pragma once

#include <array>

#include "base/bytes.h"
#include "os/file.h"

namespace reclo::recovery::testing {

inline constexpr uint64_t kCounterOffsetBytes = 2048 * 512;

// clang-format off
inline constexpr std::array<uint8_t, 129> kCounterCode{
    0xfa,                                // cli
    0x31, 0xc0,                          // xor ax,ax
    0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0,  // mov ds,ax; mov es,ax; mov ss,ax
    0xbc, 0x00, 0x7c, 0xfb, 0xfc,        // mov sp,0x7c00; sti; cld
    0x88, 0x16, 0x00, 0x06,              // mov [0x600],dl       the BIOS's number of this disk
    0xb4, 0x42, 0xe8, 0x4a, 0x00,        // mov ah,0x42; call disk        read the counter's sector
    0x72, 0x3b,                          // jc fail
    0xfe, 0x06, 0x00, 0x80,              // inc byte [0x8000]
    0xb8, 0x00, 0x43, 0xe8, 0x3e, 0x00,  // mov ax,0x4300; call disk      write it
    0x72, 0x2f,                          // jc fail
    0xbe, 0x6b, 0x7c,                    // mov si,msg
    0xac, 0x84, 0xc0, 0x74, 0x05,        // 1: lodsb; test al,al; jz 2f
    0xe8, 0x2c, 0x00, 0xeb, 0xf6,        // call putc; jmp 1b
    0xa0, 0x00, 0x80, 0x04, 0x30,        // 2: mov al,[0x8000]; add al,'0'
    0xe8, 0x22, 0x00,                    // call putc
    0xb0, 0x0a, 0xe8, 0x1d, 0x00,        // mov al,'\n'; call putc
    0x81, 0x06, 0x79, 0x7c, 0x00, 0x01,  // again: add word [dap+8],256   128 KiB on
    0xb4, 0x42, 0xe8, 0x17, 0x00,        // mov ah,0x42; call disk
    0x72, 0x08,                          // jc fail
    0xb0, 0x2e, 0xe8, 0x0b, 0x00,        // mov al,'.'; call putc
    0xf4, 0xeb, 0xeb,                    // hlt; jmp again                wait for the timer
    0xb0, 0x21, 0xe8, 0x03, 0x00,        // fail: mov al,'!'; call putc
    0xf4, 0xeb, 0xe3,                    // hlt; jmp again
    0xba, 0xf8, 0x03, 0xee, 0xc3,        // putc: mov dx,0x3f8; out dx,al; ret
    0x8a, 0x16, 0x00, 0x06,              // disk: mov dl,[0x600]
    0xbe, 0x71, 0x7c, 0xcd, 0x13, 0xc3,  // mov si,dap; int 0x13; ret
    0x42, 0x4f, 0x4f, 0x54, 0x20, 0x00,  // msg: "BOOT ",0
    0x10, 0x00, 0x01, 0x00, 0x00, 0x80, 0x00, 0x00,   // dap: one sector, to 0:0x8000,
    0x00, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};  // sector 2048
// clang-format on

/// Writes such a disk. Its size is a multiple of 1 MiB, at most 64 MiB.
inline Status write_counter_disk(const std::string& path, uint64_t size_bytes) {
  Bytes disk(size_bytes);
  uint32_t state = 12345;
  // Half pattern, half zeros, in 64 KiB pieces: hydration has to bring both.
  for (size_t i = kCounterOffsetBytes + 65536; i < disk.size(); ++i) {
    state = state * 1664525 + 1013904223;
    if ((i >> 16) % 2 == 0) disk[i] = static_cast<uint8_t>(state >> 24);
  }
  std::copy(kCounterCode.begin(), kCounterCode.end(), disk.begin());
  disk[510] = 0x55;
  disk[511] = 0xaa;
  return os::write_file_durably(path, disk);
}

}  // namespace reclo::recovery::testing
