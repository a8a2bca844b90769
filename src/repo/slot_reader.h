// From an address to verified plain bytes: finds the key of a pack, opens slots, decodes payloads.
//
// Nodes need only the map key. Chunks need the repository's unlocked key: the data key of each run
// is sealed in the headers of its packs; it is fetched once per run and kept. Thread rule: all
// methods are safe from any thread.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "base/cancel.h"
#include "crypto/hash.h"
#include "crypto/sealing.h"
#include "repo/address.h"
#include "repo/codec.h"
#include "repo/map_node.h"
#include "repo/pack.h"
#include "store/object_store.h"

namespace reclo::repo {

class SlotReader {
 public:
  /// `store` must outlive the reader; put caches in front of it as ObjectStore decorators.
  /// Without `box` only nodes can be read.
  SlotReader(store::ObjectStore& store, const RepositoryId& repository, const MachineId& machine,
             crypto::SecretKey map_key, std::optional<crypto::BoxKeyPair> box);

  Result<Leaf> read_leaf(const NodeRef& ref, const CancelToken& cancel);
  Result<InnerNode> read_inner_node(const NodeRef& ref, uint8_t level, const CancelToken& cancel);
  /// Reads several leaves of one pack, ascending by offset, with few requests: as read_chunks().
  Status read_leaves(std::span<const NodeRef> leaves,
                     const std::function<Status(size_t index, Result<Leaf> leaf)>& visit,
                     const CancelToken& cancel);

  /// Fetches, opens, decodes and checks a whole chunk: `out` is chunk.pages × 4 KiB.
  /// Errors: kCorruption names the object; kNotFound when the pack is gone; kPermissionDenied
  /// without the repository's key.
  Status read_chunk(const ChunkRef& chunk, MutableByteSpan out, const CancelToken& cancel);

  /// Fetches several chunks of one pack, those that lie close together with one ranged read.
  /// `chunks` all lie in one pack, ascending by offset. Calls `visit(index, result)` for each; a
  /// damaged or missing chunk does not hide its neighbours. Returns the first error of `visit`.
  Status read_chunks(std::span<const ChunkRef> chunks,
                     const std::function<Status(size_t index, Result<ByteSpan> plain)>& visit,
                     const CancelToken& cancel);

  /// The sealed bytes `sealed` of `chunk` to plain bytes, checked against the chunk's identity.
  Status open_chunk(const ChunkRef& chunk, ByteSpan sealed, MutableByteSpan out,
                    const CancelToken& cancel);

  const RepositoryId& repository() const { return repository_; }
  const MachineId& machine() const { return machine_; }
  const crypto::SecretKey& map_key() const { return map_key_; }
  const crypto::ContentHasher& hasher() const { return hasher_; }
  store::ObjectStore& store() { return store_; }
  std::string pack_object_key(const PackId& pack) const;

 private:
  Result<Bytes> read_node(const NodeRef& ref, const CancelToken& cancel);
  Result<Bytes> open_node(const NodeRef& ref, ByteSpan sealed);
  using SealedVisitor = std::function<Status(size_t index, Result<ByteSpan> sealed)>;
  Status read_grouped(std::span<const SlotAddress> slots, const SealedVisitor& visit,
                      const CancelToken& cancel);
  /// The key that a pack's slots are sealed with.
  using SharedKey = std::shared_ptr<const crypto::SecretKey>;
  Result<SharedKey> slot_key(PackKind kind, const PackId& pack, const CancelToken& cancel);
  /// The data key of a pack's run, from memory, from the pack's header, or from another pack's.
  Result<crypto::SecretKey> data_key(const PackId& pack, const CancelToken& cancel);
  Result<crypto::SecretKey> data_key_from(const PackId& pack, const CancelToken& cancel);
  Result<crypto::SecretKey> data_key_from_siblings(const PackId& pack, const CancelToken& cancel);

  store::ObjectStore& store_;
  const RepositoryId repository_;
  const MachineId machine_;
  const crypto::SecretKey map_key_;
  const std::optional<crypto::BoxKeyPair> box_;
  const crypto::ContentHasher hasher_;
  std::mutex mutex_;
  std::map<std::pair<SessionId, uint32_t>, crypto::SecretKey> data_keys_;  // by session and run
  std::map<std::pair<SessionId, uint32_t>, Error> lost_keys_;
  // Making a key costs as much as hashing 60 KiB: locked memory is several system calls.
  std::map<std::pair<PackKind, PackId>, SharedKey> slot_keys_;
};

}  // namespace reclo::repo
