// Checks the maps and packs of one machine for verify.h: walks every map, meets every node and
// chunk once, and afterwards finds the addresses behind damage.
// Thread rule: one caller at a time; reads on the given pool's threads.
#pragma once

#include <map>
#include <mutex>
#include <span>
#include <vector>

#include "base/task_pool.h"
#include "repo/pack.h"
#include "repo/slot_reader.h"
#include "repo/verify_problems.h"

namespace reclo::repo {

class MapVerifier {
 public:
  /// All must outlive this.
  MapVerifier(SlotReader& reader, const VerifyOptions& options, TaskPool& pool,
              ProblemList& problems, ProgressSink& progress)
      : reader_(reader), options_(options), pool_(pool), problems_(problems), progress_(progress) {}

  /// `points`: all of the machine's. Adds to the counts in `report`.
  Status check(const std::vector<Point>& points, VerifyReport& report, const CancelToken& cancel);

 private:
  struct PackState {
    uint64_t size_bytes = 0;
    bool present = false;
    bool referenced = false;
    PackKind kind = PackKind::kData;
    // By slot: 0, or a fingerprint of the reference that was met there.
    std::vector<uint32_t> seen;
    std::vector<bool> clean;  // by slot of a map pack: nothing below it is damaged
  };
  using SlotKey = std::pair<PackId, uint16_t>;

  Status list_packs(const CancelToken& cancel);
  Status walk(const NodeRef& ref, uint8_t level, const CancelToken& cancel);
  bool first_visit(const SlotAddress& at, const ChunkId& id, PackKind kind);
  Status damaged(const SlotAddress& at, Error error);
  Status check_leaves(const CancelToken& cancel);
  Status check_chunks(const CancelToken& cancel);
  Status take_leaf(const Leaf& leaf);
  Status check_packs(const CancelToken& cancel);
  Status check_pack(const PackId& pack, const PackState& state, const CancelToken& cancel);
  Status check_pack_header(const PackId& pack, PackKind kind, const CancelToken& cancel);
  Status check_pack_footer(const PackId& pack, const PackState& state, const CancelToken& cancel);
  void show_progress();

  /// The disk of a point that damage is being located in.
  struct Place {
    const PointRecord* point = nullptr;
    uint32_t disk_index = 0;
  };
  Status locate(const std::vector<Point>& points, const CancelToken& cancel);
  Result<bool> locate_below(const Place& place, const NodeRef& ref, uint8_t level,
                            uint64_t base_segment, const CancelToken& cancel);
  Result<bool> locate_in_leaves(const Place& place, const InnerNode& node, uint64_t base_segment,
                                const CancelToken& cancel);
  bool locate_in_leaf(const Place& place, const Leaf& leaf, uint64_t segment);
  /// Nothing: not known yet. Marks the range when the slot itself is damaged.
  std::optional<bool> known(const Place& place, const NodeRef& ref, uint64_t base_segment,
                            uint64_t segments);
  void mark_clean(const NodeRef& ref);
  void affect(const Place& place, size_t problem, uint64_t offset_bytes, uint64_t size_bytes);

  SlotReader& reader_;
  const VerifyOptions& options_;
  TaskPool& pool_;
  ProblemList& problems_;
  ProgressSink& progress_;
  std::mutex mutex_;
  std::map<PackId, PackState> packs_;
  std::map<SlotKey, size_t> damaged_slots_;  // to the number of the problem
  std::vector<NodeRef> pending_leaves_;
  std::vector<ChunkRef> pending_chunks_;
  uint64_t nodes_ = 0;
  uint64_t chunks_ = 0;
  uint64_t read_bytes_ = 0;
  uint64_t packs_bytes_ = 0;
};

}  // namespace reclo::repo
