// Damages every object of a small repository in every way that comes to mind, and expects that a
// check with data notices, and that what it does not name still reads as it was.
//
// What cannot be noticed from the repository alone, and is listed here on purpose:
//  - a key slot that is gone while another is there: that is what removing one looks like;
//  - the newest point's `end` gone or replaced by "fenced": that is what an interrupted or given-up
//    backup looks like. The server itself remembers its last point, and would say so;
//  - the newline at the end of a JSON record, which says nothing.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "repo/test_repository.h"
#include "repo/verify.h"

namespace reclo::repo {
namespace {

using testing::must;
using testing::test_limit;

enum class Kind { kConfig, kKeySlot, kMachine, kBegin, kEnd, kPack };

Kind kind_of(const std::string& key) {
  if (key == layout::kConfigKey) return Kind::kConfig;
  if (key.starts_with(layout::kKeySlotPrefix)) return Kind::kKeySlot;
  if (key.ends_with("/machine.json")) return Kind::kMachine;
  if (key.ends_with("/begin")) return Kind::kBegin;
  if (key.ends_with("/end")) return Kind::kEnd;
  return Kind::kPack;
}

class Mutator : public ::testing::Test {
 protected:
  Mutator() {
    alpha_.set_slots_per_pack(3);
    beta_.set_slots_per_pack(3);
    testing::make_three_points(alpha_, 1, 6);
    testing::make_three_points(beta_, 50001, 6);
    must(add_key_slot(store_, repository_.get().id(), repository_.box().secret_key,
                      SlotKind::kRecoveryCode, "second", crypto::make_recovery_code(),
                      test_limit()));
    must(store_.list(
        "",
        [&](const store::ObjectInfo& info) -> Status {
          objects_[info.key] = must(store_.get(info.key, 64 * kMiB, test_limit()));
          return {};
        },
        test_limit()));
  }

  VerifyReport verify() {
    VerifyOptions options;
    options.read_data = true;
    options.box = &repository_.box();
    options.threads = 1;
    NullProgress progress;
    return must(verify_repository(repository_.get(), options, progress, test_limit()));
  }

  void expect_noticed(const std::string& key, const std::string& what) {
    SCOPED_TRACE(key + " " + what);
    const VerifyReport report = verify();
    EXPECT_FALSE(report.problems.empty());
    if (kind_of(key) != Kind::kPack) return;  // who has the keys and the point reads packs only
    for (const testing::TestServer* server : {&alpha_, &beta_}) {
      const std::string id = server->keys().id.hex();
      if ((key + what).find(id) != std::string::npos) expect_rest_reads(*server, report);
    }
  }
  void restore(const std::string& key) { store_.overwrite(key, objects_[key]); }

  // Nothing may read as something else, and what the report does not name must read.
  void expect_rest_reads(const testing::TestServer& server, const VerifyReport& report) {
    const auto slots = server.reader(repository_.clone_box());
    MapReader maps(*slots);
    for (size_t p = 0; p < server.points().size(); ++p) {
      const PointRecord& record = server.points()[p].record;
      for (uint32_t d = 0; d < record.disks.size(); ++d) {
        const std::vector<bool> lost = lost_pages(report, record, d);
        expect_disk_reads(maps, record.disks[d], server.contents()[p][d], lost);
      }
    }
  }

  static std::vector<bool> lost_pages(const VerifyReport& report, const PointRecord& record,
                                      uint32_t disk) {
    std::vector<bool> lost(divide_up(record.disks[disk].size_bytes, kPageSizeBytes), false);
    for (const Problem& problem : report.problems) {
      EXPECT_FALSE(problem.affected_cut);
      for (const AffectedRange& range : problem.affected) {
        if (range.point != record.id || range.disk_index != disk) continue;
        for (uint64_t at = 0; at < range.size_bytes; at += kPageSizeBytes)
          lost[(range.offset_bytes + at) / kPageSizeBytes] = true;
      }
    }
    return lost;
  }

  static void expect_disk_reads(MapReader& maps, const DiskRecord& record,
                                const testing::TestDisk& content, const std::vector<bool>& lost) {
    const uint64_t segments = divide_up(record.size_bytes, kSegmentSizeBytes);
    for (uint64_t segment = 0; segment < segments; ++segment) {
      const auto leaf = maps.find_leaf(MapRoot::of(record), segment, test_limit());
      const uint64_t first = segment * kPagesPerSegment;
      const uint64_t end = std::min<uint64_t>(first + kPagesPerSegment, lost.size());
      if (!leaf.ok()) {
        for (uint64_t page = first; page < end; ++page) EXPECT_TRUE(lost[page]) << page;
        continue;
      }
      std::set<uint64_t> mapped;
      for (const Extent& extent : *leaf ? (*leaf)->extents : std::vector<Extent>()) {
        const ChunkRef& chunk = (*leaf)->chunks[extent.chunk];
        Bytes plain(chunk.pages * kPageSizeBytes);
        const Status read = maps.slots().read_chunk(chunk, plain, test_limit());
        for (uint16_t i = 0; i < extent.pages; ++i) {
          const uint64_t page = first + extent.first_page + i;
          mapped.insert(page);
          const auto expected = content.pages.find(page);
          ASSERT_NE(expected, content.pages.end()) << page;
          if (!read.ok()) {
            EXPECT_TRUE(lost[page]) << page;
          } else {
            EXPECT_TRUE(std::equal(
                expected->second.begin(), expected->second.end(),
                plain.begin() + static_cast<ptrdiff_t>((extent.chunk_page + i) * kPageSizeBytes)));
          }
        }
      }
      for (auto page = content.pages.lower_bound(first);
           page != content.pages.end() && page->first < end; ++page)
        EXPECT_TRUE(mapped.contains(page->first)) << page->first;
    }
  }

  bool newest_end(const std::string& key) const {
    for (const testing::TestServer* server : {&alpha_, &beta_})
      if (key == layout::session_end(server->keys().id, server->points().back().record.id))
        return true;
    return false;
  }

  store::MemoryStore store_;
  testing::TestRepository repository_{store_};
  testing::TestServer alpha_{repository_.get(), "alpha"};
  testing::TestServer beta_{repository_.get(), "beta"};
  std::map<std::string, Bytes> objects_;
};

TEST_F(Mutator, ThereIsOneOfEachKind) {
  std::map<Kind, size_t> kinds;
  for (const auto& [key, object] : objects_) ++kinds[kind_of(key)];
  EXPECT_EQ(kinds.size(), 6u);
  EXPECT_EQ(kinds[Kind::kEnd], 6u);
  EXPECT_TRUE(verify().problems.empty());
}

TEST_F(Mutator, NoObjectVanishesUnnoticed) {
  for (const auto& [key, object] : objects_) {
    must(store_.remove(key, test_limit()));
    if (newest_end(key)) {
      EXPECT_EQ(verify().open_sessions, 1u);
    } else if (kind_of(key) == Kind::kKeySlot) {
      EXPECT_TRUE(verify().problems.empty());
    } else {
      expect_noticed(key, "missing");
    }
    restore(key);
  }
}

TEST_F(Mutator, NoLengthChangesUnnoticed) {
  for (const auto& [key, object] : objects_) {
    std::set<size_t> sizes = {0, 1, object.size() / 2, object.size() - 2, object.size() + 1};
    if (kind_of(key) == Kind::kPack)
      sizes.insert({object.size() - 1, 512, 513, object.size() - 16, object.size() - 17,
                    object.size() - 100});
    for (const size_t size : sizes) {
      if (size == object.size()) continue;
      Bytes changed = object;
      changed.resize(size, 'x');
      store_.overwrite(key, std::move(changed));
      expect_noticed(key, "with length " + std::to_string(size));
    }
    restore(key);
  }
}

TEST_F(Mutator, NoBitFlipsUnnoticed) {
  std::mt19937_64 random(4);
  std::set<uint8_t> thorough;
  for (const auto& [key, object] : objects_) {
    std::set<size_t> places = {0, object.size() / 2, object.size() - 1};
    for (int i = 0; i < 6; ++i) places.insert(random() % object.size());
    // Each field of a pack's header, its padding, trailer and footer; once for each kind of pack.
    if (kind_of(key) == Kind::kPack && thorough.insert(object[10]).second)
      places.insert({8, 10, 11, 12, 28, 44, 60, 64, 66, 70, 149, 200, 511, 512, object.size() - 4,
                     object.size() - 12, object.size() - 16, object.size() - 20});
    for (const size_t at : places) {
      Bytes changed = object;
      changed[at] = static_cast<uint8_t>(changed[at] ^ (1u << (random() % 8)));
      store_.overwrite(key, std::move(changed));
      expect_noticed(key, "flipped at " + std::to_string(at));
      if (HasFailure()) return;
    }
    restore(key);
  }
}

TEST_F(Mutator, NoObjectStandsInForAnother) {
  std::map<Kind, std::vector<std::string>> kinds;
  for (const auto& [key, object] : objects_) kinds[kind_of(key)].push_back(key);
  for (const auto& [kind, keys] : kinds) {
    // Its neighbours, and one of another machine: exchanged, and standing in its place.
    for (size_t i = 0; i < keys.size(); ++i) {
      for (const size_t step : {size_t{1}, size_t{2}, keys.size() / 2}) {
        const std::string& key = keys[i];
        const std::string& other = keys[(i + step) % keys.size()];
        if (key == other) continue;
        store_.overwrite(key, objects_[other]);
        expect_noticed(key, "replaced by " + other);
        store_.overwrite(other, objects_[key]);
        expect_noticed(key, "swapped with " + other);
        restore(key);
        restore(other);
        if (HasFailure()) return;
      }
    }
  }
}

TEST_F(Mutator, AFencedEndIsNoticedUnlessItIsTheNewest) {
  for (const auto& [key, object] : objects_) {
    if (kind_of(key) != Kind::kEnd) continue;
    store_.overwrite(key, fenced_end());
    EXPECT_EQ(verify().problems.empty(), newest_end(key)) << key;
    restore(key);
  }
}

}  // namespace
}  // namespace reclo::repo
