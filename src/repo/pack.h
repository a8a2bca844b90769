// Packs: objects of about 16 MiB that hold many sealed slots. docs/format.md §4.
//
//   header (512 bytes, plain) ‖ slot 0 ‖ slot 1 ‖ … ‖ sealed footer ‖ trailer (16 bytes, plain)
//
// Invariants:
//  1. A pack's bytes are fixed before the first upload attempt; a retry sends the same bytes.
//  2. A pack id is used for one content only, ever (sessions are random, runs are drawn once), so a
//     (pack key, slot) nonce is never used for two plaintexts.
//  3. PackBuilder opens each slot after sealing it and compares: what is uploaded can be read.
#pragma once

#include <memory>
#include <vector>

#include "crypto/aead.h"
#include "crypto/sealing.h"
#include "repo/address.h"

namespace reclo::repo {

inline constexpr size_t kPackHeaderSize = 512;
inline constexpr size_t kPackTrailerSize = 16;

enum class PackKind : uint8_t { kData = 1, kMap = 2 };

struct PackHeader {
  PackKind kind = PackKind::kData;
  RepositoryId repository;
  MachineId machine;
  PackId id;
  /// The run's data key, sealed to each of the repository's public keys. Empty for map packs.
  std::vector<Bytes> sealed_data_keys;
};

struct SlotInfo {
  ChunkId id;
  uint32_t offset_bytes = 0;
  uint32_t stored_bytes = 0;
};

Bytes encode_pack_header(const PackHeader& header);
/// Errors: kCorruption, kUnsupported (newer pack version or cipher).
Result<PackHeader> decode_pack_header(ByteSpan bytes);

/// What every seal in a pack is bound to besides its slot. docs/format.md §4.2.
Bytes slot_associated_data(const RepositoryId& repository, const PackId& pack, uint16_t slot,
                           const ChunkId& id);

/// The key of a data pack (from its run's data key) or of a map pack (from the map key).
crypto::SecretKey pack_key(PackKind kind, const crypto::SecretKey& parent, const PackId& pack);
crypto::SecretKey footer_key(const crypto::SecretKey& map_key, const PackId& pack);

/// A pack ready for upload.
struct SealedPack {
  PackId id;
  PackKind kind = PackKind::kData;
  Bytes bytes;
  std::vector<SlotInfo> slots;
};

/// Collects slots. One thread at a time.
class PackBuilder {
 public:
  /// `parent_key`: the run's data key for data packs, the map key for map packs.
  PackBuilder(PackHeader header, const crypto::SecretKey& parent_key,
              const crypto::SecretKey& map_key);

  /// Seals `payload` (from Compressor::encode) as the next slot.
  SlotAddress add(const ChunkId& id, ByteSpan payload);
  size_t size_bytes() const { return bytes_.size(); }
  size_t slot_count() const { return slots_.size(); }
  bool full() const;
  const PackId& id() const { return header_.id; }
  /// Adds footer and trailer. The builder is used up.
  SealedPack finish() &&;

 private:
  PackHeader header_;
  crypto::Aead slot_aead_;
  crypto::SecretKey footer_key_;
  Bytes bytes_;
  Bytes check_;
  std::vector<SlotInfo> slots_;
};

/// Where a whole pack's footer lies, from its last kPackTrailerSize bytes and its size.
struct FooterPlace {
  uint64_t offset_bytes = 0;
  uint32_t stored_bytes = 0;
};
Result<FooterPlace> decode_pack_trailer(ByteSpan trailer, uint64_t pack_size_bytes);
/// Opens a footer. Every slot lies between header and footer, in order, without overlap.
Result<std::vector<SlotInfo>> open_pack_footer(ByteSpan sealed_footer,
                                               const RepositoryId& repository, const PackId& pack,
                                               const crypto::SecretKey& map_key,
                                               uint64_t footer_offset_bytes);

}  // namespace reclo::repo
