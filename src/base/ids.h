// Strong types for identifiers: 16 bytes, shown as 32 hex digits. Two kinds never mix.
#pragma once

#include <array>
#include <compare>
#include <cstring>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/encoding.h"
#include "base/result.h"

namespace reclo {

template <class Tag>
class Id {
 public:
  static constexpr size_t kSize = 16;
  Id() = default;
  /// `bytes` must be kSize long.
  static Id from_bytes(ByteSpan bytes) {
    RECLO_CHECK(bytes.size() == kSize);
    Id id;
    std::memcpy(id.bytes_.data(), bytes.data(), kSize);
    return id;
  }
  static Result<Id> parse(std::string_view hex) {
    RECLO_ASSIGN_OR_RETURN(Bytes bytes, from_hex(hex));
    if (bytes.size() != kSize)
      return Error(Code::kInvalidArgument, "an id has 32 hex digits: '" + std::string(hex) + "'");
    return from_bytes(bytes);
  }
  ByteSpan bytes() const { return bytes_; }
  MutableByteSpan mutable_bytes() { return bytes_; }
  std::string hex() const { return to_hex(bytes_); }
  /// The first eight digits: what people type and read.
  std::string short_hex() const { return hex().substr(0, 8); }
  bool is_zero() const { return is_all_zero(bytes_); }
  auto operator<=>(const Id&) const = default;

 private:
  std::array<uint8_t, kSize> bytes_{};
};

/// Hash for unordered containers: ids are random or keyed hashes, so their first bytes do.
template <class Tag>
struct IdHash {
  size_t operator()(const Id<Tag>& id) const { return load_le<uint64_t>(id.bytes().data()); }
};

using RepositoryId = Id<struct RepositoryTag>;
using MachineId = Id<struct MachineTag>;
/// A session makes at most one recovery point; the point's id is its session's.
using SessionId = Id<struct SessionTag>;
using PointId = SessionId;
/// Keyed hash of a chunk's or map node's content. docs/format.md §5.
using ChunkId = Id<struct ChunkTag>;
/// Keyed hash of one 4 KiB page.
using PageTag = Id<struct PageTagTag>;

}  // namespace reclo
