// A small repository for this module's tests, and a writer of recovery points that is as plain as
// can be: disks are maps of pages in memory, every change becomes a patch chunk.
//
// It stands beside the real pipeline (backup/) on purpose: two writers of one format.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/limits.h"
#include "crypto/passphrase.h"
#include "repo/codec.h"
#include "repo/layout.h"
#include "repo/map_builder.h"
#include "repo/session.h"
#include "store/memory_store.h"

namespace reclo::repo::testing {

inline CancelToken test_limit() { return CancelToken().with_timeout(std::chrono::seconds(120)); }

/// The value, or a failed test and a default value.
template <class T>
T must(Result<T> result) {
  if (!result.ok()) {
    ADD_FAILURE() << result.error().message();
    RECLO_CHECK(false);
  }
  return std::move(result).value();
}
inline void must(const Status& status) {
  if (!status.ok()) ADD_FAILURE() << status.error().message();
}

/// 4 KiB that depend on `seed` only; every other one is incompressible.
inline Bytes make_page(uint64_t seed) {
  Bytes page(kPageSizeBytes);
  std::mt19937_64 random(seed);
  for (size_t i = 0; i < page.size(); i += 8)
    store_le<uint64_t>(page.data() + i, seed % 2 == 0 ? random() : seed * 0x0101010101010101u);
  page[0] |= 1;  // never all zero
  return page;
}

struct TestDisk {
  std::string name;
  uint64_t size_bytes = 0;
  std::map<uint64_t, Bytes> pages;  // by page index; what is missing is zero
};

/// A repository with one key slot, a recovery code: Argon2 would cost a second in each test.
class TestRepository {
 public:
  explicit TestRepository(store::ObjectStore& store) : box_(crypto::make_box_key_pair()) {
    RepositoryConfig config;
    config.id.mutable_bytes()[0] = 1;
    os_random(config.id.mutable_bytes());
    config.created = wall_now();
    config.public_key = box_.public_key;
    config.store = {true, true, true, ""};
    code_ = crypto::make_recovery_code();
    must(add_key_slot(store, config.id, box_.secret_key, SlotKind::kRecoveryCode, "printed", code_,
                      test_limit()));
    must(store.put_if_absent(layout::kConfigKey, encode_config(config, box_.secret_key),
                             test_limit()));
    repository_ = std::make_unique<Repository>(must(Repository::open(store, test_limit())));
  }
  const Repository& get() const { return *repository_; }
  const std::string& code() const { return code_; }
  const crypto::BoxKeyPair& box() const { return box_; }
  crypto::BoxKeyPair clone_box() const { return {box_.public_key, box_.secret_key.clone()}; }

 private:
  static void os_random(MutableByteSpan out) {
    const crypto::SecretKey key = crypto::SecretKey::random();
    std::copy_n(key.bytes().begin(), out.size(), out.begin());
  }
  crypto::BoxKeyPair box_;
  std::string code_;
  std::unique_ptr<Repository> repository_;
};

/// Rebuilds a leaf from where each page of the segment lies.
class LeafPages {
 public:
  explicit LeafPages(const Leaf* leaf) : places_(kPagesPerSegment) {
    if (leaf == nullptr) return;
    for (const Extent& extent : leaf->extents)
      for (uint16_t i = 0; i < extent.pages; ++i)
        places_[extent.first_page + i] = {leaf->chunks[extent.chunk],
                                          static_cast<uint16_t>(extent.chunk_page + i)};
  }
  void set(size_t page, const ChunkRef& chunk, size_t chunk_page) {
    places_[page] = {chunk, static_cast<uint16_t>(chunk_page)};
  }
  void clear(size_t page) { places_[page] = {}; }
  Leaf leaf() const {
    Leaf out;
    for (uint16_t page = 0; page < kPagesPerSegment; ++page) {
      const Place& place = places_[page];
      if (place.chunk.pages == 0) continue;
      auto found = std::find(out.chunks.begin(), out.chunks.end(), place.chunk);
      if (found == out.chunks.end()) found = out.chunks.insert(out.chunks.end(), place.chunk);
      const auto chunk = static_cast<uint16_t>(found - out.chunks.begin());
      Extent* last = out.extents.empty() ? nullptr : &out.extents.back();
      if (last != nullptr && last->chunk == chunk && last->first_page + last->pages == page &&
          last->chunk_page + last->pages == place.page) {
        ++last->pages;
      } else {
        out.extents.push_back({page, 1, chunk, place.page});
      }
    }
    return out;
  }

 private:
  struct Place {
    ChunkRef chunk;  // pages == 0: a hole
    uint16_t page = 0;
  };
  std::vector<Place> places_;
};

/// A server that backs its disks up. Points, and what the disks held at each, are kept.
class TestServer {
 public:
  TestServer(const Repository& repository, std::string_view name)
      : repository_(repository), keys_(make_machine_keys(name)) {
    must(enrol_machine(repository.store(), repository.id(), repository.config().public_key, keys_,
                       test_limit()));
  }
  const MachineKeys& keys() const { return keys_; }
  const std::vector<Point>& points() const { return points_; }
  const std::vector<std::vector<TestDisk>>& contents() const { return contents_; }
  /// How many slots go into a pack before the next is begun.
  void set_slots_per_pack(size_t slots) { slots_per_pack_ = slots; }

  std::unique_ptr<SlotReader> reader(std::optional<crypto::BoxKeyPair> box) const {
    return std::make_unique<SlotReader>(repository_.store(), repository_.id(), keys_.id,
                                        keys_.map_key.clone(), std::move(box));
  }

  const Point& back_up(std::vector<TestDisk> disks) {
    SessionOptions options;
    if (!points_.empty()) options.pins = {points_.back().record.id};
    session_ = must(SessionWriter::begin(repository_, keys_, options, test_limit()));
    PointRecord record;
    record.sequence = points_.size() + 1;
    record.kind = points_.empty() ? PointKind::kFull : PointKind::kIncremental;
    if (!points_.empty()) {
      record.previous = points_.back().record.id;
      record.previous_digest = points_.back().digest;
    }
    record.started = record.taken = record.finished = wall_now();
    for (size_t i = 0; i < disks.size(); ++i) record.disks.push_back(write_disk(i, disks[i]));
    flush(data_pack_);
    flush(map_pack_);
    points_.push_back(must(session_->commit(std::move(record), test_limit())));
    contents_.push_back(std::move(disks));
    session_.reset();
    return points_.back();
  }

 private:
  SlotAddress store_slot(std::unique_ptr<PackBuilder>& pack, PackKind kind, const ChunkId& id,
                         ByteSpan raw) {
    if (pack && pack->slot_count() >= slots_per_pack_) flush(pack);
    if (!pack) pack = std::make_unique<PackBuilder>(session_->new_pack(kind));
    return pack->add(id, compressor_.encode(raw, 1));
  }
  void flush(std::unique_ptr<PackBuilder>& pack) {
    if (!pack) return;
    const SealedPack sealed = std::move(*pack).finish();
    must(session_->upload(sealed, test_limit()));
    // A patch of this session may follow in a new pack; readers see the stored ones only.
    pack.reset();
  }

  ChunkRef store_chunk(ByteSpan raw) {
    const crypto::ContentHasher hasher(keys_.map_key);
    std::vector<PageTag> tags(raw.size() / kPageSizeBytes);
    hasher.page_tags(raw, tags);
    ChunkRef chunk;
    chunk.id = hasher.chunk_id(tags);
    chunk.pages = static_cast<uint16_t>(tags.size());
    chunk.at = store_slot(data_pack_, PackKind::kData, chunk.id, raw);
    return chunk;
  }

  DiskRecord write_disk(size_t index, const TestDisk& disk) {
    static const TestDisk kNone;
    const TestDisk& before = points_.empty() ? kNone : contents_.back()[index];
    MapRoot parent;
    if (!points_.empty()) parent = MapRoot::of(points_.back().record.disks[index]);
    const auto slots = reader(std::nullopt);
    MapReader maps(*slots);
    const crypto::ContentHasher hasher(keys_.map_key);
    MapBuilder builder(disk.size_bytes, parent, &maps, [&](ByteSpan node) -> Result<NodeRef> {
      const ChunkId id = hasher.node_id(node);
      return NodeRef{id, store_slot(map_pack_, PackKind::kMap, id, node)};
    });
    for (const auto& [segment, changed] : changed_pages(before, disk)) {
      const auto old = must(maps.find_leaf(parent, segment, test_limit()));
      LeafPages pages(old.get());
      Bytes patch;
      for (const uint64_t page : changed)
        if (const auto found = disk.pages.find(page); found != disk.pages.end())
          patch.insert(patch.end(), found->second.begin(), found->second.end());
      const ChunkRef chunk = patch.empty() ? ChunkRef() : store_chunk(patch);
      size_t next = 0;
      for (const uint64_t page : changed) {
        if (disk.pages.contains(page)) {
          pages.set(page % kPagesPerSegment, chunk, next++);
        } else {
          pages.clear(page % kPagesPerSegment);
        }
      }
      must(builder.set(segment, pages.leaf(), test_limit()));
    }
    const MapRoot root = must(std::move(builder).finish(test_limit()));
    DiskRecord record;
    record.name = disk.name;
    record.format = "raw";
    record.size_bytes = disk.size_bytes;
    record.map_height = root.height;
    record.map_root = root.root;
    return record;
  }

  static std::map<uint64_t, std::vector<uint64_t>> changed_pages(const TestDisk& before,
                                                                 const TestDisk& after) {
    std::map<uint64_t, std::vector<uint64_t>> changed;
    const uint64_t end_page = divide_up(after.size_bytes, kPageSizeBytes);
    std::map<uint64_t, bool> all;
    for (const auto& [page, content] : before.pages) all[page] = true;
    for (const auto& [page, content] : after.pages) all[page] = true;
    for (const auto& [page, unused] : all) {
      if (page >= end_page) continue;
      const auto old = before.pages.find(page);
      const auto now = after.pages.find(page);
      const bool same = (old == before.pages.end()) == (now == after.pages.end()) &&
                        (old == before.pages.end() || old->second == now->second);
      if (!same) changed[page / kPagesPerSegment].push_back(page);
    }
    return changed;
  }

  const Repository& repository_;
  MachineKeys keys_;
  std::vector<Point> points_;
  std::vector<std::vector<TestDisk>> contents_;
  size_t slots_per_pack_ = 8;
  Compressor compressor_;
  std::unique_ptr<SessionWriter> session_;
  std::unique_ptr<PackBuilder> data_pack_;
  std::unique_ptr<PackBuilder> map_pack_;
};

/// Three points of two disks: a disk of 41 segments (two map levels) and one of a single segment.
/// The second point patches both, the third adds, removes and patches.
inline void make_three_points(TestServer& server, uint64_t seed, uint64_t pages = 20) {
  TestDisk big{"/dev/vda", 41 * kSegmentSizeBytes - 3 * kPageSizeBytes, {}};
  TestDisk small{"/dev/vdb", 3 * kMiB + 1000, {}};
  for (const uint64_t segment : {0, 1, 7, 40})
    for (uint64_t page = 0; page < pages; ++page)
      big.pages[segment * kPagesPerSegment + page] = make_page(seed + segment * 100 + page);
  for (uint64_t page = 5; page < 10 + pages; ++page)
    small.pages[page] = make_page(seed + 9000 + page);
  server.back_up({big, small});
  big.pages[3] = make_page(seed + 20001);
  big.pages[7 * kPagesPerSegment + 4] = make_page(seed + 20003);
  small.pages[10] = make_page(seed + 20005);
  server.back_up({big, small});
  big.pages.erase(5);
  big.pages[20 * kPagesPerSegment] = make_page(seed + 30001);
  big.pages[7 * kPagesPerSegment + 5] = make_page(seed + 30002);
  small.pages[11] = make_page(seed + 30003);
  server.back_up({big, small});
}

}  // namespace reclo::repo::testing
