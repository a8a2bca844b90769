// Where bytes are: packs, slots in them, and references to chunks and map nodes.
#pragma once

#include <cstdint>
#include <functional>

#include "base/ids.h"

namespace reclo::repo {

/// A pack of a machine. The number's top 8 bits are the run (a session that was interrupted and
/// resumed has several, each with a data key of its own), the rest counts packs within the run.
struct PackId {
  SessionId session;
  uint32_t number = 0;

  static constexpr uint32_t kRunShift = 24;
  static constexpr uint32_t kPacksPerRunMax = 1u << kRunShift;
  static constexpr uint32_t kRunsMax = 256;
  uint32_t run() const { return number >> kRunShift; }
  auto operator<=>(const PackId&) const = default;
};

struct PackIdHash {
  size_t operator()(const PackId& pack) const {
    return IdHash<SessionTag>()(pack.session) ^ (size_t{pack.number} * 0x9e3779b97f4a7c15u);
  }
};

/// Stored bytes in a pack: slot number, and where the slot's sealed bytes lie.
struct SlotAddress {
  PackId pack;
  uint16_t slot = 0;
  uint32_t offset_bytes = 0;
  uint32_t stored_bytes = 0;  // sealed: with the authentication tag
  auto operator<=>(const SlotAddress&) const = default;
};

/// A map node (leaf or inner) by identity and place.
struct NodeRef {
  ChunkId id;
  SlotAddress at;
  bool operator==(const NodeRef&) const = default;
};

/// A chunk of disk content by identity, place and length.
struct ChunkRef {
  ChunkId id;
  SlotAddress at;
  uint16_t pages = 0;  // of 4 KiB; a chunk is never longer than a segment
  bool operator==(const ChunkRef&) const = default;
};

}  // namespace reclo::repo
