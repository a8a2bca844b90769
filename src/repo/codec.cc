#include "repo/codec.h"

#include <zstd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace reclo::repo {
namespace {

constexpr uint8_t kCodecStored = 0;
constexpr uint8_t kCodecZstd = 1;

void write_header(Bytes& payload, uint8_t codec, size_t raw_size) {
  payload[0] = codec;
  store_le<uint32_t>(payload.data() + 1, static_cast<uint32_t>(raw_size));
}

Bytes stored(ByteSpan raw) {
  Bytes payload(kPayloadHeaderSize + raw.size());
  write_header(payload, kCodecStored, raw.size());
  if (!raw.empty()) std::memcpy(payload.data() + kPayloadHeaderSize, raw.data(), raw.size());
  return payload;
}

}  // namespace

bool looks_incompressible(ByteSpan raw) {
  // Order-0 entropy of eight 512-byte samples. Random bytes sampled 4096 times measure about 7.95
  // bits each; the densest data that zstd still gains on is below 7.8.
  constexpr size_t kSample = 512;
  constexpr size_t kSamples = 8;
  if (raw.size() < kSample * kSamples) return false;
  std::array<uint32_t, 256> counts{};
  const size_t stride = (raw.size() - kSample) / (kSamples - 1);
  for (size_t s = 0; s < kSamples; ++s)
    for (uint8_t byte : raw.subspan(s * stride, kSample)) ++counts[byte];
  const double total = kSample * kSamples;
  double bits = 0;
  for (uint32_t count : counts)
    if (count > 0) bits -= count * std::log2(count / total);
  return bits / total > 7.9;
}

Compressor::Compressor() : context_(ZSTD_createCCtx()) { RECLO_CHECK(context_ != nullptr); }
Compressor::~Compressor() { ZSTD_freeCCtx(context_); }
Compressor::Compressor(Compressor&& other) noexcept
    : context_(std::exchange(other.context_, nullptr)), scratch_(std::move(other.scratch_)) {}
Compressor& Compressor::operator=(Compressor&& other) noexcept {
  std::swap(context_, other.context_);
  std::swap(scratch_, other.scratch_);
  return *this;
}

Bytes Compressor::encode(ByteSpan raw, int level) {
  if (looks_incompressible(raw)) return stored(raw);
  // Into a scratch buffer first: payloads wait in queues, and should not take more than their size.
  scratch_.resize(std::max(scratch_.size(), ZSTD_compressBound(raw.size())));
  const size_t size =
      ZSTD_compressCCtx(context_, scratch_.data(), scratch_.size(), raw.data(), raw.size(), level);
  RECLO_CHECK(ZSTD_isError(size) == 0);
  if (size + raw.size() / 32 >= raw.size()) return stored(raw);
  Bytes payload;
  payload.reserve(kPayloadHeaderSize + size);
  payload.resize(kPayloadHeaderSize);
  write_header(payload, kCodecZstd, raw.size());
  payload.insert(payload.end(), scratch_.begin(), scratch_.begin() + static_cast<ptrdiff_t>(size));
  return payload;
}

Decompressor::Decompressor() : context_(ZSTD_createDCtx()) { RECLO_CHECK(context_ != nullptr); }
Decompressor::~Decompressor() { ZSTD_freeDCtx(context_); }
Decompressor::Decompressor(Decompressor&& other) noexcept
    : context_(std::exchange(other.context_, nullptr)) {}
Decompressor& Decompressor::operator=(Decompressor&& other) noexcept {
  std::swap(context_, other.context_);
  return *this;
}

Status Decompressor::decode(ByteSpan payload, MutableByteSpan out) {
  ByteReader in(payload);
  const uint8_t codec = in.u8();
  const uint32_t raw_size = in.u32();
  if (!in.ok() || raw_size != out.size())
    return Error(Code::kCorruption, "a stored payload has another length than its reference says");
  const ByteSpan body = payload.subspan(kPayloadHeaderSize);
  if (codec == kCodecStored) {
    if (body.size() != out.size()) return Error(Code::kCorruption, "a stored payload is cut off");
    if (!out.empty()) std::memcpy(out.data(), body.data(), out.size());
    return {};
  }
  if (codec != kCodecZstd)
    return Error(Code::kUnsupported, "a payload with the unknown codec " + std::to_string(codec) +
                                         ": it was written by a newer ReClo");
  const size_t size =
      ZSTD_decompressDCtx(context_, out.data(), out.size(), body.data(), body.size());
  if (ZSTD_isError(size) != 0 || size != out.size())
    return Error(Code::kCorruption, "a compressed payload does not decompress");
  return {};
}

Result<Bytes> Decompressor::decode(ByteSpan payload, size_t size_bytes_max) {
  ByteReader in(payload);
  in.u8();
  const uint32_t raw_size = in.u32();
  if (!in.ok() || raw_size > size_bytes_max)
    return Error(Code::kCorruption, "a stored payload has no sane length");
  Bytes out(raw_size);
  RECLO_TRY(decode(payload, MutableByteSpan(out)));
  return out;
}

}  // namespace reclo::repo
