#include "repo/slot_reader.h"

#include <fmt/format.h>

#include "base/limits.h"
#include "crypto/aead.h"
#include "repo/layout.h"
#include "repo/pack.h"

namespace reclo::repo {
namespace {

// A gap this long between two wanted slots is cheaper to fetch than to skip with another request.
constexpr uint32_t kGapBytesMax = 256 * kKiB;
constexpr uint32_t kReadBytesMax = 8 * kMiB;
// When a pack's header is damaged: in how many others of its run the key is looked for. Some of
// them are map packs, which carry none.
constexpr size_t kSiblingsTried = 64;
constexpr size_t kSlotKeysKept = 256;

}  // namespace

SlotReader::SlotReader(store::ObjectStore& store, const RepositoryId& repository,
                       const MachineId& machine, crypto::SecretKey map_key,
                       std::optional<crypto::BoxKeyPair> box)
    : store_(store),
      repository_(repository),
      machine_(machine),
      map_key_(std::move(map_key)),
      box_(std::move(box)),
      hasher_(map_key_) {}

std::string SlotReader::pack_object_key(const PackId& pack) const {
  return layout::pack(machine_, pack);
}

Result<Bytes> SlotReader::read_node(const NodeRef& ref, const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const Bytes sealed,
                         store_.get_range(pack_object_key(ref.at.pack),
                                          {ref.at.offset_bytes, ref.at.stored_bytes}, cancel));
  return open_node(ref, sealed);
}

Result<Bytes> SlotReader::open_node(const NodeRef& ref, ByteSpan sealed) {
  const std::string key = pack_object_key(ref.at.pack);
  if (sealed.size() < crypto::kAeadTagSize)
    return Error(Code::kCorruption, fmt::format("{}: map node too short", key));
  RECLO_ASSIGN_OR_RETURN(const SharedKey slot_aead_key,
                         slot_key(PackKind::kMap, ref.at.pack, CancelToken()));
  crypto::Aead aead(*slot_aead_key);
  Bytes payload(sealed.size() - crypto::kAeadTagSize);
  RECLO_TRY_WITH(
      aead.open(ref.at.slot, slot_associated_data(repository_, ref.at.pack, ref.at.slot, ref.id),
                sealed, payload),
      fmt::format("{}: map node in slot {}", key, ref.at.slot));
  thread_local Decompressor decompressor;
  RECLO_ASSIGN_OR_RETURN_WITH(Bytes node, decompressor.decode(payload, kNodeSizeBytesMax), key);
  if (hasher_.node_id(node) != ref.id)
    return Error(Code::kCorruption,
                 fmt::format("{}: slot {} holds another map node", key, ref.at.slot));
  return node;
}

Result<Leaf> SlotReader::read_leaf(const NodeRef& ref, const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const Bytes bytes, read_node(ref, cancel));
  return decode_leaf(bytes);
}

Result<InnerNode> SlotReader::read_inner_node(const NodeRef& ref, uint8_t level,
                                              const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const Bytes bytes, read_node(ref, cancel));
  return decode_inner_node(bytes, level);
}

Result<SlotReader::SharedKey> SlotReader::slot_key(PackKind kind, const PackId& pack,
                                                   const CancelToken& cancel) {
  {
    std::lock_guard lock(mutex_);
    if (const auto found = slot_keys_.find({kind, pack}); found != slot_keys_.end())
      return found->second;
  }
  SharedKey key;
  if (kind == PackKind::kMap) {
    key = std::make_shared<const crypto::SecretKey>(pack_key(kind, map_key_, pack));
  } else {
    RECLO_ASSIGN_OR_RETURN(const crypto::SecretKey parent, data_key(pack, cancel));
    key = std::make_shared<const crypto::SecretKey>(pack_key(kind, parent, pack));
  }
  std::lock_guard lock(mutex_);
  if (slot_keys_.size() >= kSlotKeysKept) slot_keys_.clear();
  slot_keys_[{kind, pack}] = key;
  return key;
}

Result<crypto::SecretKey> SlotReader::data_key(const PackId& pack, const CancelToken& cancel) {
  const std::pair<SessionId, uint32_t> run{pack.session, pack.run()};
  {
    std::lock_guard lock(mutex_);
    if (const auto found = data_keys_.find(run); found != data_keys_.end())
      return found->second.clone();
    if (const auto found = lost_keys_.find(run); found != lost_keys_.end()) return found->second;
  }
  if (!box_)
    return Error(Code::kPermissionDenied,
                 "reading data needs the repository's key: give a passphrase or recovery code");
  auto key = data_key_from(pack, cancel);
  if (!key.ok() && (key.error().code() == Code::kCorruption || key.error().code() == Code::kIo)) {
    auto other = data_key_from_siblings(pack, cancel);
    if (other.ok()) key = std::move(other);
  }
  std::lock_guard lock(mutex_);
  if (!key.ok()) {
    if (key.error().code() == Code::kCorruption) lost_keys_.emplace(run, key.error());
    return key;
  }
  return data_keys_.emplace(run, std::move(key).value()).first->second.clone();
}

Result<crypto::SecretKey> SlotReader::data_key_from(const PackId& pack, const CancelToken& cancel) {
  const std::string key = pack_object_key(pack);
  RECLO_ASSIGN_OR_RETURN(const Bytes bytes, store_.get_range(key, {0, kPackHeaderSize}, cancel));
  RECLO_ASSIGN_OR_RETURN_WITH(const PackHeader header, decode_pack_header(bytes), key);
  if (header.id != pack || header.machine != machine_ || header.repository != repository_)
    return Error(Code::kCorruption, key + ": this is another pack: objects were swapped");
  Error last(Code::kCorruption, "it carries no data key");
  for (const Bytes& sealed : header.sealed_data_keys) {
    auto opened = crypto::open_sealed_key(*box_, sealed);
    if (opened.ok()) return opened;
    last = std::move(opened).error();
  }
  return std::move(last).with(key);
}

// Every data pack of a run carries the same key: one damaged header costs no data.
Result<crypto::SecretKey> SlotReader::data_key_from_siblings(const PackId& pack,
                                                             const CancelToken& cancel) {
  std::vector<PackId> siblings;
  RECLO_TRY(store_.list(
      layout::packs_prefix(machine_, pack.session),
      [&](const store::ObjectInfo& info) -> Status {
        const auto id = layout::parse_pack_key(machine_, info.key);
        if (id.ok() && id->run() == pack.run() && *id != pack && siblings.size() < kSiblingsTried)
          siblings.push_back(*id);
        return {};
      },
      cancel));
  Result<crypto::SecretKey> key = Error(Code::kNotFound, "no other pack has this run's data key");
  for (const PackId& sibling : siblings) {
    key = data_key_from(sibling, cancel);
    if (key.ok()) return key;
  }
  return key;
}

Status SlotReader::open_chunk(const ChunkRef& chunk, ByteSpan sealed, MutableByteSpan out,
                              const CancelToken& cancel) {
  RECLO_CHECK(out.size() == chunk.pages * kPageSizeBytes);
  RECLO_ASSIGN_OR_RETURN(const SharedKey key, slot_key(PackKind::kData, chunk.at.pack, cancel));
  const auto context = [&] {
    return fmt::format("{}: chunk in slot {}", pack_object_key(chunk.at.pack), chunk.at.slot);
  };
  if (sealed.size() < crypto::kAeadTagSize)
    return Error(Code::kCorruption, context() + " is too short");
  crypto::Aead aead(*key);
  Bytes payload(sealed.size() - crypto::kAeadTagSize);
  Status status = aead.open(
      chunk.at.slot, slot_associated_data(repository_, chunk.at.pack, chunk.at.slot, chunk.id),
      sealed, payload);
  if (!status.ok()) return std::move(status).error().with(context());
  thread_local Decompressor decompressor;
  status = decompressor.decode(payload, out);
  if (!status.ok()) return std::move(status).error().with(context());
  // The seal is bound to the id, and only the writer had the key; the hash also catches a writer
  // that sealed other bytes than it hashed.
  std::array<PageTag, kPagesPerSegment> tags;
  const std::span<PageTag> used = std::span(tags).first(chunk.pages);
  hasher_.page_tags(out, used);
  if (hasher_.chunk_id(used) != chunk.id)
    return Error(Code::kCorruption, context() + " decodes to other content than its name says");
  return {};
}

Status SlotReader::read_chunk(const ChunkRef& chunk, MutableByteSpan out,
                              const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const Bytes sealed,
                         store_.get_range(pack_object_key(chunk.at.pack),
                                          {chunk.at.offset_bytes, chunk.at.stored_bytes}, cancel));
  return open_chunk(chunk, sealed, out, cancel);
}

// Slots that lie close together come with one ranged read. When that fails for the bytes' own sake
// (the pack is shorter than it was), each is tried alone: damage hides no neighbours.
Status SlotReader::read_grouped(std::span<const SlotAddress> slots, const SealedVisitor& visit,
                                const CancelToken& cancel) {
  size_t first = 0;
  while (first < slots.size()) {
    const std::string key = pack_object_key(slots[first].pack);
    const uint32_t start = slots[first].offset_bytes;
    uint32_t end = start + slots[first].stored_bytes;
    size_t last = first + 1;
    while (last < slots.size() && slots[last].offset_bytes >= end &&
           slots[last].offset_bytes - end <= kGapBytesMax &&
           slots[last].offset_bytes + slots[last].stored_bytes - start <= kReadBytesMax) {
      end = slots[last].offset_bytes + slots[last].stored_bytes;
      ++last;
    }
    const auto fetched = store_.get_range(key, {start, end - start}, cancel);
    const bool one_by_one =
        !fetched.ok() && last - first > 1 &&
        (fetched.error().code() == Code::kCorruption || fetched.error().code() == Code::kIo);
    for (size_t i = first; i < last; ++i) {
      const SlotAddress& slot = slots[i];
      if (one_by_one) {
        const auto alone = store_.get_range(key, {slot.offset_bytes, slot.stored_bytes}, cancel);
        RECLO_TRY(
            visit(i, alone.ok() ? Result<ByteSpan>(*alone) : Result<ByteSpan>(alone.error())));
      } else if (!fetched.ok()) {
        RECLO_TRY(visit(i, fetched.error()));
      } else {
        RECLO_TRY(
            visit(i, ByteSpan(*fetched).subspan(slot.offset_bytes - start, slot.stored_bytes)));
      }
    }
    first = last;
  }
  return {};
}

Status SlotReader::read_chunks(std::span<const ChunkRef> chunks,
                               const std::function<Status(size_t, Result<ByteSpan>)>& visit,
                               const CancelToken& cancel) {
  std::vector<SlotAddress> slots;
  for (const ChunkRef& chunk : chunks) slots.push_back(chunk.at);
  Bytes plain;
  return read_grouped(
      slots,
      [&](size_t i, Result<ByteSpan> sealed) -> Status {
        if (!sealed.ok()) return visit(i, std::move(sealed).error());
        plain.resize(chunks[i].pages * kPageSizeBytes);
        Status status = open_chunk(chunks[i], *sealed, plain, cancel);
        return visit(i, status.ok() ? Result<ByteSpan>(ByteSpan(plain))
                                    : Result<ByteSpan>(std::move(status).error()));
      },
      cancel);
}

Status SlotReader::read_leaves(std::span<const NodeRef> leaves,
                               const std::function<Status(size_t, Result<Leaf>)>& visit,
                               const CancelToken& cancel) {
  std::vector<SlotAddress> slots;
  for (const NodeRef& leaf : leaves) slots.push_back(leaf.at);
  return read_grouped(
      slots,
      [&](size_t i, Result<ByteSpan> sealed) -> Status {
        if (!sealed.ok()) return visit(i, std::move(sealed).error());
        auto node = open_node(leaves[i], *sealed);
        return visit(i, node.ok() ? decode_leaf(*node) : Result<Leaf>(std::move(node).error()));
      },
      cancel);
}

}  // namespace reclo::repo
