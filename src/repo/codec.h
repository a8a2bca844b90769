// Slot payloads: one codec byte, the raw size, and the (perhaps compressed) bytes. docs/format.md
// §4.3.
#pragma once

#include "base/bytes.h"
#include "base/result.h"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace reclo::repo {

inline constexpr size_t kPayloadHeaderSize = 5;

/// Turns raw bytes into slot payloads. Keeps a zstd context: one object per thread.
class Compressor {
 public:
  Compressor();
  ~Compressor();
  Compressor(Compressor&&) noexcept;
  Compressor& operator=(Compressor&&) noexcept;
  /// Compresses with zstd at `level` (negative levels are the fast ones) unless the data looks
  /// incompressible or would not shrink by 1/32; then stores it as it is.
  Bytes encode(ByteSpan raw, int level);

 private:
  ZSTD_CCtx_s* context_;
  Bytes scratch_;
};

/// Turns slot payloads back. One object per thread.
class Decompressor {
 public:
  Decompressor();
  ~Decompressor();
  Decompressor(Decompressor&&) noexcept;
  Decompressor& operator=(Decompressor&&) noexcept;
  /// Decodes into `out`, which must have the raw size. Errors: kCorruption, kUnsupported (codec).
  Status decode(ByteSpan payload, MutableByteSpan out);
  /// Decodes a payload of at most `size_bytes_max` raw bytes.
  Result<Bytes> decode(ByteSpan payload, size_t size_bytes_max);

 private:
  ZSTD_DCtx_s* context_;
};

/// A quick look at some of the bytes: whether they are as random as compressed data.
bool looks_incompressible(ByteSpan raw);

}  // namespace reclo::repo
