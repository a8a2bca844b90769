#include "repo/verify_maps.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/limits.h"
#include "repo/layout.h"
#include "repo/pack.h"

namespace reclo::repo {
namespace {

constexpr size_t kLeavesPerBatch = 1024;
constexpr size_t kLeavesPerTask = 256;
constexpr size_t kChunksPerBatch = 32768;
constexpr size_t kChunksPerTask = 32;
constexpr size_t kDamagedSlotsMax = 1000000;

uint32_t fingerprint(const SlotAddress& at, const ChunkId& id) {
  const uint64_t mixed =
      (load_le<uint64_t>(id.bytes().data()) ^ at.offset_bytes ^ (uint64_t{at.stored_bytes} << 32)) *
      0x9e3779b97f4a7c15u;
  const auto top = static_cast<uint32_t>(mixed >> 32);
  return top != 0 ? top : 1;
}

// Calls `run` with spans of references into one pack each, ascending by offset.
template <class Ref>
Status for_each_task(std::vector<Ref>& refs, size_t per_task,
                     const std::function<Status(std::span<const Ref>)>& run) {
  std::sort(refs.begin(), refs.end(), [](const Ref& a, const Ref& b) {
    return std::tie(a.at.pack, a.at.offset_bytes) < std::tie(b.at.pack, b.at.offset_bytes);
  });
  for (size_t first = 0; first < refs.size();) {
    size_t last = first + 1;
    while (last < refs.size() && last - first < per_task &&
           refs[last].at.pack == refs[first].at.pack)
      ++last;
    RECLO_TRY(run(std::span<const Ref>(refs).subspan(first, last - first)));
    first = last;
  }
  return {};
}

}  // namespace

Status MapVerifier::check(const std::vector<Point>& points, VerifyReport& report,
                          const CancelToken& cancel) {
  // Listed after the points were: whatever a point refers to was stored before it.
  RECLO_TRY(list_packs(cancel));
  for (const Point& point : points) {
    for (const DiskRecord& disk : point.record.disks)
      if (disk.map_root) RECLO_TRY(walk(*disk.map_root, disk.map_height, cancel));
    ++report.points_checked;
  }
  RECLO_TRY(check_leaves(cancel));
  RECLO_TRY(check_chunks(cancel));
  if (options_.read_data) RECLO_TRY(check_packs(cancel));
  if (!damaged_slots_.empty()) RECLO_TRY(locate(points, cancel));
  for (const auto& [id, pack] : packs_) {
    if (pack.present) ++report.packs_present;
    if (pack.present && !pack.referenced) ++report.packs_unreferenced;
  }
  report.nodes_checked += nodes_;
  report.chunks_checked += chunks_;
  report.data_bytes_read += read_bytes_;
  return {};
}

Status MapVerifier::list_packs(const CancelToken& cancel) {
  return reader_.store().list(
      layout::all_packs_prefix(reader_.machine()),
      [&](const store::ObjectInfo& info) -> Status {
        const auto id = layout::parse_pack_key(reader_.machine(), info.key);
        if (!id.ok()) return {};  // not ours
        PackState& pack = packs_[*id];
        pack.present = true;
        pack.size_bytes = info.size_bytes;
        packs_bytes_ += info.size_bytes;
        return {};
      },
      cancel);
}

// Whether these stored bytes were not met before; if so, checks that they can be there at all.
bool MapVerifier::first_visit(const SlotAddress& at, const ChunkId& id, PackKind kind) {
  PackState& pack = packs_[at.pack];
  pack.referenced = true;
  pack.kind = kind;
  if (pack.seen.size() <= at.slot) pack.seen.resize(at.slot + size_t{1}, 0);
  uint32_t& seen = pack.seen[at.slot];
  const uint32_t now = fingerprint(at, id);
  if (seen == now) return false;
  if (seen == 0) seen = now;
  ++(kind == PackKind::kMap ? nodes_ : chunks_);
  const std::string key = reader_.pack_object_key(at.pack);
  const uint64_t end = uint64_t{at.offset_bytes} + at.stored_bytes;
  std::string why;
  if (!pack.present) {
    why = "this pack is missing";
  } else if (end > pack.size_bytes) {
    why = fmt::format("this pack is cut off: it has {} bytes, and slot {} ends at {}",
                      pack.size_bytes, at.slot, end);
  } else {
    return true;
  }
  ignore_error(damaged(at, Error(Code::kCorruption, why)), "damage is kept, not returned");
  return false;
}

// Keeps damage for the report; anything else ends the check. Callers in tasks hold `mutex_`.
Status MapVerifier::damaged(const SlotAddress& at, Error error) {
  if (!is_damage(error)) return error;
  const size_t number = problems_.add(reader_.pack_object_key(at.pack), error.message());
  if (damaged_slots_.size() >= kDamagedSlotsMax) {
    problems_.cut_affected(number);
    return {};
  }
  damaged_slots_.emplace(SlotKey{at.pack, at.slot}, number);
  return {};
}

Status MapVerifier::walk(const NodeRef& ref, uint8_t level, const CancelToken& cancel) {
  RECLO_TRY(cancel.check());
  if (!first_visit(ref.at, ref.id, PackKind::kMap)) return {};
  if (level == 0) {
    pending_leaves_.push_back(ref);
    if (pending_leaves_.size() >= kLeavesPerBatch) RECLO_TRY(check_leaves(cancel));
    return {};
  }
  const auto node = reader_.read_inner_node(ref, level, cancel);
  read_bytes_ += ref.at.stored_bytes;
  if (!node.ok()) return damaged(ref.at, node.error());
  for (const InnerNode::Child& child : node->children)
    RECLO_TRY(walk(child.node, static_cast<uint8_t>(level - 1), cancel));
  return {};
}

Status MapVerifier::check_leaves(const CancelToken& cancel) {
  TaskGroup group(pool_, cancel);
  RECLO_TRY(for_each_task<NodeRef>(
      pending_leaves_, kLeavesPerTask, [&](std::span<const NodeRef> leaves) -> Status {
        group.spawn([this, leaves, token = group.token()] {
          return reader_.read_leaves(
              leaves,
              [&](size_t i, Result<Leaf> leaf) -> Status {
                std::lock_guard lock(mutex_);
                read_bytes_ += leaves[i].at.stored_bytes;
                if (!leaf.ok()) return damaged(leaves[i].at, std::move(leaf).error());
                return take_leaf(*leaf);
              },
              token);
        });
        return {};
      }));
  RECLO_TRY(group.wait());
  pending_leaves_.clear();
  show_progress();
  if (pending_chunks_.size() >= kChunksPerBatch) return check_chunks(cancel);
  return {};
}

Status MapVerifier::take_leaf(const Leaf& leaf) {
  for (const ChunkRef& chunk : leaf.chunks)
    if (first_visit(chunk.at, chunk.id, PackKind::kData) && options_.read_data)
      pending_chunks_.push_back(chunk);
  return {};
}

Status MapVerifier::check_chunks(const CancelToken& cancel) {
  TaskGroup group(pool_, cancel);
  RECLO_TRY(for_each_task<ChunkRef>(
      pending_chunks_, kChunksPerTask, [&](std::span<const ChunkRef> chunks) -> Status {
        group.spawn([this, chunks, token = group.token()] {
          const Status status = reader_.read_chunks(
              chunks,
              [&](size_t i, Result<ByteSpan> plain) -> Status {
                std::lock_guard lock(mutex_);
                read_bytes_ += chunks[i].at.stored_bytes;
                if (plain.ok()) return {};
                return damaged(chunks[i].at, std::move(plain).error());
              },
              token);
          show_progress();
          return status;
        });
        return {};
      }));
  RECLO_TRY(group.wait());
  pending_chunks_.clear();
  return {};
}

Status MapVerifier::check_packs(const CancelToken& cancel) {
  TaskGroup group(pool_, cancel);
  for (const auto& [id, pack] : packs_) {
    if (!pack.present || !pack.referenced) continue;
    group.spawn([this, &id, &pack, token = group.token()] { return check_pack(id, pack, token); });
  }
  return group.wait();
}

// What a pack says about itself is needed to find data keys, to collect garbage and to compact.
Status MapVerifier::check_pack(const PackId& id, const PackState& state,
                               const CancelToken& cancel) {
  const auto note = [&](const Status& status) -> Status {
    if (status.ok()) return {};
    if (!is_damage(status.error())) return status.error();
    problems_.add(reader_.pack_object_key(id), status.error().message());
    return {};
  };
  RECLO_TRY(note(check_pack_header(id, state.kind, cancel)));
  return note(check_pack_footer(id, state, cancel));
}

Status MapVerifier::check_pack_header(const PackId& id, PackKind kind, const CancelToken& cancel) {
  const std::string key = reader_.pack_object_key(id);
  RECLO_ASSIGN_OR_RETURN(const Bytes bytes,
                         reader_.store().get_range(key, {0, kPackHeaderSize}, cancel));
  RECLO_ASSIGN_OR_RETURN(const PackHeader header, decode_pack_header(bytes));
  if (header.id != id || header.machine != reader_.machine() ||
      header.repository != reader_.repository() || header.kind != kind)
    return Error(Code::kCorruption, "its header is another pack's: objects were swapped");
  if (encode_pack_header(header) != bytes)
    return Error(Code::kCorruption, "its header was changed after it was written");
  bool opens = header.kind == PackKind::kMap;
  for (const Bytes& sealed : header.sealed_data_keys)
    if (crypto::open_sealed_key(*options_.box, sealed).ok()) opens = true;
  if (!opens)
    return Error(Code::kCorruption,
                 "its header carries no data key that opens; its data can be "
                 "read only as long as another pack of the same run is whole");
  return {};
}

Status MapVerifier::check_pack_footer(const PackId& id, const PackState& state,
                                      const CancelToken& cancel) {
  const std::string key = reader_.pack_object_key(id);
  if (state.size_bytes < kPackHeaderSize + kPackTrailerSize)
    return Error(Code::kCorruption, "this pack is cut off");
  RECLO_ASSIGN_OR_RETURN(const Bytes trailer,
                         reader_.store().get_range(
                             key, {state.size_bytes - kPackTrailerSize, kPackTrailerSize}, cancel));
  RECLO_ASSIGN_OR_RETURN(const FooterPlace place, decode_pack_trailer(trailer, state.size_bytes));
  RECLO_ASSIGN_OR_RETURN(
      const Bytes footer,
      reader_.store().get_range(key, {place.offset_bytes, place.stored_bytes}, cancel));
  RECLO_ASSIGN_OR_RETURN(
      const std::vector<SlotInfo> slots,
      open_pack_footer(footer, reader_.repository(), id, reader_.map_key(), place.offset_bytes));
  for (size_t slot = 0; slot < state.seen.size(); ++slot) {
    if (state.seen[slot] == 0) continue;
    if (slot >= slots.size())
      return Error(Code::kCorruption, fmt::format("its footer knows no slot {}", slot));
    const SlotInfo& info = slots[slot];
    const SlotAddress at{id, static_cast<uint16_t>(slot), info.offset_bytes, info.stored_bytes};
    if (fingerprint(at, info.id) != state.seen[slot])
      return Error(Code::kCorruption, fmt::format("its footer contradicts a map on slot {}", slot));
  }
  return {};
}

void MapVerifier::show_progress() {
  std::lock_guard lock(mutex_);
  progress_.update({options_.read_data ? "checking data" : "checking maps", read_bytes_,
                    options_.read_data ? packs_bytes_ : 0, read_bytes_, ""});
}

}  // namespace reclo::repo
