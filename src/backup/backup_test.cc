// Backups end to end in one process: sparse image files in, a store in memory, and every committed
// point read back through the map and compared byte by byte.
#include "backup/backup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <functional>
#include <random>
#include <thread>

#include "backup/journal.h"
#include "backup/server_state.h"
#include "base/limits.h"
#include "os/file.h"
#include "repo/layout.h"
#include "repo/test_repository.h"
#include "store/fault_store.h"

namespace reclo::backup {
namespace {

using repo::testing::must;
using ::testing::HasSubstr;

uint64_t mix(uint64_t value) {
  value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9u;
  value = (value ^ value >> 27) * 0x94d049bb133111ebu;
  return value ^ value >> 31;
}

Bytes random_bytes(uint64_t seed, size_t size) {
  Bytes out(size);
  const uint64_t start = mix(seed + 1);
  for (size_t i = 0; i + 8 <= size; i += 8) store_le<uint64_t>(out.data() + i, mix(start + i));
  return out;
}

// A raw sparse image file, and what it holds.
class Image {
 public:
  Image(const std::string& folder, const std::string& name, uint64_t size_bytes)
      : path_(os::join_path(folder, name)) {
    must(os::open_file(path_, os::OpenMode::kCreate));
    resize(size_bytes);
  }
  void resize(uint64_t size_bytes) {
    ASSERT_EQ(::truncate(path_.c_str(), static_cast<off_t>(size_bytes)), 0);
    content_.resize(size_bytes);
  }
  void write(uint64_t offset, ByteSpan data) {
    const os::Fd fd = must(os::open_file(path_, os::OpenMode::kReadWrite));
    must(os::write_at(fd, offset, data));
    std::copy(data.begin(), data.end(), content_.begin() + static_cast<ptrdiff_t>(offset));
  }
  void rename(const std::string& name) {
    const std::string to = os::join_path(os::parent_path(path_), name);
    must(os::rename_durably(path_, to));
    path_ = to;
  }
  const std::string& path() const { return path_; }
  const Bytes& content() const { return content_; }

 private:
  std::string path_;
  Bytes content_;
};

// Calls back at each update of the progress, on the pipeline's own thread.
class Watcher final : public ProgressSink {
 public:
  explicit Watcher(std::function<void(const ProgressUpdate&)> on_update)
      : on_update_(std::move(on_update)) {}
  void update(const ProgressUpdate& update) override { on_update_(update); }
  void note(std::string_view) override {}

 private:
  const std::function<void(const ProgressUpdate&)> on_update_;
};

class BackupTest : public ::testing::Test {
 protected:
  BackupTest()
      : folder_(must(os::TempDir::create("reclo-backup-"))),
        memory_(std::make_unique<store::MemoryStore>()),
        repository_(*memory_) {
    options_.server = "files";
    options_.state_directory = os::join_path(folder_.path(), "state");
    options_.workers = 2;
    options_.upload_threads = 2;
  }

  Result<BackupReport> try_backup(const std::vector<const Image*>& images,
                                  const CancelToken& cancel = repo::testing::test_limit()) {
    NullProgress progress;
    return try_backup(images, progress, cancel);
  }
  Result<BackupReport> try_backup(const std::vector<const Image*>& images, ProgressSink& progress,
                                  const CancelToken& cancel = repo::testing::test_limit()) {
    BackupOptions options = options_;
    for (const Image* image : images) options.disks.push_back(image->path());
    return run_backup(repository_.get(), options, progress, cancel);
  }
  BackupReport back_up(const std::vector<const Image*>& images) {
    BackupReport report = must(try_backup(images));
    expect_restores(report.point, images);
    return report;
  }

  Bytes restore(const repo::Point& point, size_t disk_index) {
    const auto machines = must(repository_.get().machines(nullptr, repo::testing::test_limit()));
    RECLO_CHECK(machines.size() == 1);
    repo::SlotReader slots(*memory_, repository_.get().id(), machines[0].id,
                           must(repository_.get().map_key(machines[0], repository_.box())),
                           repository_.clone_box());
    repo::MapReader maps(slots);
    const repo::DiskRecord& disk = point.record.disks[disk_index];
    const uint64_t segments = divide_up(disk.size_bytes, kSegmentSizeBytes);
    Bytes out(segments * kSegmentSizeBytes, 0);
    const CancelToken cancel = repo::testing::test_limit();
    must(maps.for_each_leaf(
        repo::MapRoot::of(disk), 0, segments,
        [&](uint64_t segment, const repo::NodeRef& ref) -> Status {
          RECLO_ASSIGN_OR_RETURN(const auto leaf, maps.leaf(ref, cancel));
          std::vector<Bytes> chunks;
          for (const repo::ChunkRef& chunk : leaf->chunks) {
            chunks.emplace_back(chunk.pages * kPageSizeBytes);
            RECLO_TRY(slots.read_chunk(chunk, chunks.back(), cancel));
          }
          for (const repo::Extent& extent : leaf->extents)
            std::memcpy(
                out.data() + segment * kSegmentSizeBytes + extent.first_page * kPageSizeBytes,
                chunks[extent.chunk].data() + extent.chunk_page * kPageSizeBytes,
                extent.pages * kPageSizeBytes);
          return {};
        },
        cancel));
    out.resize(disk.size_bytes);
    return out;
  }
  void expect_restores(const repo::Point& point, const std::vector<const Image*>& images) {
    ASSERT_EQ(point.record.disks.size(), images.size());
    for (size_t i = 0; i < images.size(); ++i)
      EXPECT_TRUE(restore(point, i) == images[i]->content()) << "disk " << i;
  }

  std::string server_file(const std::string& name) const {
    return os::join_path(options_.state_directory,
                         "repositories/" + repository_.get().id().hex() + "/servers/files/" + name);
  }
  std::optional<JournalContent> journal() const {
    return Journal::load(server_file("session.journal"));
  }
  // Holds the pipeline until a pack is stored and noted, at `done_bytes`; then acts once.
  Watcher when_a_pack_is_stored(uint64_t done_bytes, std::function<void()> act) {
    return Watcher([this, done_bytes, act = std::move(act),
                    done = false](const ProgressUpdate& update) mutable {
      if (done || update.done_bytes < done_bytes) return;
      for (int i = 0; i < 3000 && (!journal() || journal()->chunks.empty()); ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      done = true;
      act();
    });
  }
  static uint64_t new_bytes(const BackupReport& report) {
    uint64_t sum = 0;
    for (const repo::DiskRecord& disk : report.point.record.disks) sum += disk.new_bytes;
    return sum;
  }

  const os::TempDir folder_;
  const std::unique_ptr<store::MemoryStore> memory_;
  repo::testing::TestRepository repository_;
  BackupOptions options_;
};

TEST_F(BackupTest, AFullBackupThenNothingNew) {
  Image disk(folder_.path(), "disk.img", 21 * kMiB + 1000);
  disk.write(0, random_bytes(1, 3 * kMiB));
  disk.write(13 * kMiB + 512, random_bytes(2, kMiB));
  disk.write(21 * kMiB, random_bytes(3, 1000));
  const BackupReport full = back_up({&disk});
  EXPECT_EQ(full.point.record.kind, repo::PointKind::kFull);
  EXPECT_EQ(full.point.record.sequence, 1u);
  EXPECT_GE(new_bytes(full), 4 * kMiB);

  const BackupReport second = back_up({&disk});
  EXPECT_EQ(second.point.record.kind, repo::PointKind::kIncremental);
  EXPECT_EQ(second.point.record.sequence, 2u);
  EXPECT_EQ(second.point.record.previous, full.point.record.id);
  EXPECT_EQ(second.point.record.previous_digest, full.point.digest);
  EXPECT_EQ(second.point.record.statistics.uploaded_bytes, 0u);
  EXPECT_EQ(second.point.record.disks[0].map_root, full.point.record.disks[0].map_root);
  EXPECT_TRUE(second.warnings.empty());

  options_.full = true;
  const BackupReport third = back_up({&disk});
  EXPECT_EQ(third.point.record.kind, repo::PointKind::kFull);
  EXPECT_EQ(new_bytes(third), 0u);
}

TEST_F(BackupTest, OnlyChangedPagesAreStored) {
  Image disk(folder_.path(), "disk.img", 16 * kMiB);
  disk.write(0, random_bytes(1, 16 * kMiB));
  back_up({&disk});
  for (uint64_t page = 5; page < 4096; page += 200)
    disk.write(page * kPageSizeBytes + 100, random_bytes(page, 64));
  EXPECT_EQ(new_bytes(back_up({&disk})), divide_up(4096 - 5, 200) * kPageSizeBytes);
}

// ---- a disk whose every page tells when and where it was written

uint64_t checksum(ByteSpan data) {
  uint64_t sum = 0;
  for (size_t i = 0; i + 8 <= data.size(); i += 8)
    sum = mix(sum ^ load_le<uint64_t>(data.data() + i));
  return sum;
}

constexpr size_t kSummedBytes = kPageSizeBytes - 8;

Bytes stamped_page(uint32_t generation, uint64_t page) {
  Bytes out = random_bytes(generation * 1'000'003u + page, kPageSizeBytes);
  std::fill(out.begin() + 1024, out.end() - 8, uint8_t{0x5a});
  store_le<uint32_t>(out.data(), generation);
  store_le<uint64_t>(out.data() + 4, page);
  store_le<uint64_t>(out.data() + kSummedBytes, checksum(ByteSpan(out).first(kSummedBytes)));
  return out;
}

// What a page holds, for messages.
std::string describe(ByteSpan page) {
  if (is_all_zero(page)) return "zeros";
  if (load_le<uint64_t>(page.data() + kSummedBytes) != checksum(page.first(kSummedBytes)))
    return "a torn page";
  return "page " + std::to_string(load_le<uint64_t>(page.data() + 4)) + " of generation " +
         std::to_string(load_le<uint32_t>(page.data()));
}

TEST_F(BackupTest, TwelveGenerationsOfRandomWritesReadBack) {
  constexpr uint64_t kPages = 3 * kPagesPerSegment;
  Image disk(folder_.path(), "disk.img", kPages * kPageSizeBytes);
  std::mt19937_64 random(7);
  std::vector<uint32_t> model(kPages, 0);  // the generation of each page; 0: zeros
  std::vector<std::vector<uint32_t>> models;
  std::vector<repo::Point> points;
  for (uint32_t generation = 1; generation <= 12; ++generation) {
    const auto stamp = [&](uint64_t first, uint64_t count, uint32_t with) {
      Bytes data;
      for (uint64_t p = first; p < std::min(first + count, kPages); ++p) {
        const Bytes page = with == 0 ? Bytes(kPageSizeBytes, 0) : stamped_page(with, p);
        data.insert(data.end(), page.begin(), page.end());
        model[p] = with;
      }
      disk.write(first * kPageSizeBytes, data);
    };
    if (generation == 1) stamp(300, 2000, generation);
    for (int i = 0; i < 60; ++i) stamp(random() % kPages, 1 + random() % 3, generation);
    stamp(random() % kPages, random() % 400, generation);
    stamp(random() % kPages, random() % 200, 0);
    if (generation == 6) must(os::remove_file(server_file("disk-0.tags")));
    options_.compression_level = generation % 3 == 0 ? -3 : 0;
    points.push_back(must(try_backup({&disk})).point);
    models.push_back(model);
  }
  for (size_t g = 0; g < points.size(); ++g) {
    const Bytes restored = restore(points[g], 0);
    for (uint64_t p = 0; p < kPages; ++p) {
      const ByteSpan page = ByteSpan(restored).subspan(p * kPageSizeBytes, kPageSizeBytes);
      const uint32_t expected = models[g][p];
      const bool right =
          expected == 0 ? is_all_zero(page) : to_bytes(page) == stamped_page(expected, p);
      ASSERT_TRUE(right) << "point " << g + 1 << ", page " << p << " of generation " << expected
                         << ", holds " << describe(page);
    }
  }
}

// ---- disks that change their shape

TEST_F(BackupTest, ADiskThatShrinksAndGrowsAgainIsReadAnew) {
  Image disk(folder_.path(), "disk.img", 18 * kMiB);
  disk.write(0, random_bytes(1, 18 * kMiB));
  const Bytes tail = random_bytes(2, 5 * kMiB);
  disk.write(12 * kMiB, tail);
  const repo::Point first = back_up({&disk}).point;
  const Bytes before = disk.content();
  disk.resize(9 * kMiB + 512);
  back_up({&disk});
  disk.resize(18 * kMiB);
  back_up({&disk});
  disk.write(12 * kMiB, tail);  // the same old content at the same place
  back_up({&disk});
  // Past 1 GiB the map gets a level more.
  ASSERT_EQ(::truncate(disk.path().c_str(), 1100 * kMiB), 0);
  must(os::write_at(must(os::open_file(disk.path(), os::OpenMode::kReadWrite)), 1090 * kMiB,
                    random_bytes(4, kMiB)));
  EXPECT_EQ(new_bytes(must(try_backup({&disk}))), kMiB);
  EXPECT_TRUE(restore(first, 0) == before);
}

TEST_F(BackupTest, TwoDisksOneRenamed) {
  Image boot(folder_.path(), "boot.img", 9 * kMiB);
  Image data(folder_.path(), "data.img", 5 * kMiB);
  boot.write(kMiB, random_bytes(1, 3 * kMiB));
  data.write(0, random_bytes(2, 4 * kMiB));
  back_up({&boot, &data});
  data.write(kMiB, random_bytes(3, 4096));
  data.rename("moved.img");
  EXPECT_EQ(new_bytes(back_up({&boot, &data})), 4096u);
  // In another order they are found by their names.
  const BackupReport swapped = back_up({&data, &boot});
  // (Page tags go by position: without them the patched window is stored whole.)
  EXPECT_LE(new_bytes(swapped), kChunkSizeBytes);
  // One disk less, then both again.
  back_up({&boot});
  back_up({&boot, &data});
}

TEST_F(BackupTest, ContentThatMovedIsFound) {
  Image disk(folder_.path(), "disk.img", 24 * kMiB);
  const Bytes content = random_bytes(1, 6 * kMiB);
  disk.write(0, content);
  back_up({&disk});
  disk.write(16 * kMiB, content);
  disk.write(0, random_bytes(2, kMiB));
  EXPECT_EQ(new_bytes(back_up({&disk})), kMiB);
  // Twice the same new content in one backup is stored once.
  const Bytes twin = random_bytes(3, kMiB);
  disk.write(8 * kMiB, twin);
  disk.write(12 * kMiB, twin);
  EXPECT_EQ(new_bytes(back_up({&disk})), kMiB);
}

TEST_F(BackupTest, AnEmptyOrMissingDiskIsRefused) {
  Image empty(folder_.path(), "empty.img", 0);
  EXPECT_EQ(try_backup({&empty}).error().code(), Code::kInvalidArgument);
  ASSERT_EQ(::unlink(empty.path().c_str()), 0);
  const auto missing = try_backup({&empty});
  EXPECT_EQ(missing.error().code(), Code::kNotFound);
  EXPECT_THAT(missing.error().message(), HasSubstr("empty.img"));
}

TEST_F(BackupTest, ADiskThatShrinksMeanwhileIsAnError) {
  Image disk(folder_.path(), "disk.img", 32 * kMiB);
  disk.write(0, random_bytes(1, 32 * kMiB));
  Watcher shrink([&](const ProgressUpdate& update) {
    if (update.done_bytes == kSegmentSizeBytes) disk.resize(25 * kMiB);
  });
  options_.workers = 1;
  const auto report = try_backup({&disk}, shrink);
  ASSERT_FALSE(report.ok());
  EXPECT_THAT(report.error().message(), HasSubstr("disk.img"));
  back_up({&disk});
}

// ---- lost memories cost upload, never correctness

TEST_F(BackupTest, LostMemoriesCostNoCorrectness) {
  Image disk(folder_.path(), "disk.img", 12 * kMiB);
  disk.write(0, random_bytes(1, 10 * kMiB));
  back_up({&disk});
  uint64_t generation = 10;
  for (const std::string lost : {"disk-0.tags", "state.json", "chunks.index", "maps"}) {
    const BackupReport unchanged = back_up({&disk});
    must(os::remove_tree(server_file(lost)));
    const BackupReport after = back_up({&disk});
    EXPECT_EQ(new_bytes(after), 0u) << lost;
    EXPECT_EQ(after.point.record.sequence, unchanged.point.record.sequence + 1) << lost;
    EXPECT_EQ(after.warnings.size(), lost == "disk-0.tags" ? 1u : 0u) << lost;
    ++generation;
    disk.write(generation * 40 * kPageSizeBytes, random_bytes(generation, kPageSizeBytes));
    must(os::remove_tree(server_file(lost)));
    back_up({&disk});
  }
}

TEST_F(BackupTest, DamagedMemoriesCostNoCorrectness) {
  Image disk(folder_.path(), "disk.img", 12 * kMiB);
  disk.write(0, random_bytes(1, 10 * kMiB));
  back_up({&disk});
  for (const std::string damaged : {"state.json", "chunks.index", "session.journal"}) {
    must(os::write_file_durably(server_file(damaged), as_bytes("garbage")));
    disk.write(damaged.size() * 100 * kPageSizeBytes, random_bytes(damaged.size(), 8192));
    EXPECT_EQ(new_bytes(back_up({&disk})), 8192u) << damaged;
  }
}

TEST_F(BackupTest, ADamagedCachedMapIsFetchedAgain) {
  Image disk(folder_.path(), "disk.img", 12 * kMiB);
  disk.write(0, random_bytes(1, 10 * kMiB));
  back_up({&disk});
  const auto names = must(os::list_directory(server_file("maps")));
  ASSERT_FALSE(names.empty());
  for (const std::string& name : names) {
    const std::string path = os::join_path(server_file("maps"), name);
    const Bytes whole = must(os::read_file(path, kGiB));
    for (const size_t at :
         {size_t{0}, size_t{9}, size_t{17}, whole.size() / 2, whole.size() - 70}) {
      Bytes flipped = whole;
      for (size_t i = 0; i < 64 && at + i < flipped.size(); ++i) flipped[at + i] ^= 0x11;
      must(os::write_file_durably(path, flipped));
      disk.write(at % 2000 * kPageSizeBytes, random_bytes(at, kPageSizeBytes));
      const BackupReport report = back_up({&disk});
      EXPECT_TRUE(report.warnings.empty());
      EXPECT_EQ(new_bytes(report), kPageSizeBytes);
    }
  }
}

TEST_F(BackupTest, ADamagedMapInTheStoreCostsAFullUpload) {
  Image disk(folder_.path(), "disk.img", 12 * kMiB);
  disk.write(0, random_bytes(1, 10 * kMiB));
  const repo::Point point = back_up({&disk}).point;
  const std::string key =
      repo::layout::pack(point.record.machine, point.record.disks[0].map_root->at.pack);
  Bytes pack = must(memory_->get(key, kPackSizeBytesMax, repo::testing::test_limit()));
  for (size_t i = repo::kPackHeaderSize; i < pack.size(); i += 100) pack[i] ^= 1;
  memory_->overwrite(key, pack);
  must(os::remove_tree(server_file("maps")));
  disk.write(0, random_bytes(2, kPageSizeBytes));
  const BackupReport report = back_up({&disk});
  ASSERT_EQ(report.warnings.size(), 1u);
  EXPECT_THAT(report.warnings[0], HasSubstr("damaged"));
  EXPECT_EQ(report.point.record.sequence, 2u);
  EXPECT_EQ(report.point.record.kind, repo::PointKind::kFull);
  EXPECT_TRUE(back_up({&disk}).warnings.empty());
}

TEST_F(BackupTest, ACancelledBackupGoesOnWithItsPacks) {
  Image disk(folder_.path(), "disk.img", 64 * kMiB);
  disk.write(0, random_bytes(1, 64 * kMiB));
  std::stop_source stop;
  Watcher cancel = when_a_pack_is_stored(40 * kMiB, [&] { stop.request_stop(); });
  const auto cancelled = try_backup({&disk}, cancel, CancelToken(stop.get_token()));
  ASSERT_FALSE(cancelled.ok());
  EXPECT_EQ(cancelled.error().code(), Code::kCancelled);
  const auto journaled = journal();
  ASSERT_TRUE(journaled);
  uint64_t stored_pages = 0;
  for (const JournaledChunk& chunk : journaled->chunks) stored_pages += chunk.chunk.pages;
  ASSERT_GT(stored_pages, 0u);
  // The disk changes in between: what no longer fits is stored again.
  disk.write(0, random_bytes(2, kMiB));
  const BackupReport resumed = back_up({&disk});
  EXPECT_TRUE(resumed.resumed);
  EXPECT_EQ(new_bytes(resumed), 64 * kMiB - stored_pages * kPageSizeBytes + kMiB);
  EXPECT_FALSE(journal());
  EXPECT_FALSE(back_up({&disk}).resumed);
}

void copy_objects(store::ObjectStore& from, store::MemoryStore& to) {
  const CancelToken cancel = repo::testing::test_limit();
  must(from.list(
      "",
      [&](const store::ObjectInfo& info) -> Status {
        to.overwrite(info.key, must(from.get(info.key, kGiB, cancel)));
        return {};
      },
      cancel));
}

TEST_F(BackupTest, AnUnreliableStoreIsOutlastedRunByRun) {
  Image disk(folder_.path(), "disk.img", 40 * kMiB);
  disk.write(0, random_bytes(1, 40 * kMiB));
  for (int generation = 0; generation < 3; ++generation) {
    store::FaultPlan plan;
    plan.seed = static_cast<uint64_t>(generation) + 3;
    plan.fail_before_percent = 15;
    plan.fail_after_percent = 10;
    plan.truncate_get_percent = 10;
    auto inner = std::make_unique<store::MemoryStore>();
    copy_objects(*memory_, *inner);
    store::MemoryStore* copy = inner.get();
    store::FaultStore faults(std::move(inner), plan);
    auto opened = repo::Repository::open(faults, repo::testing::test_limit());
    while (!opened.ok()) opened = repo::Repository::open(faults, repo::testing::test_limit());
    BackupOptions options = options_;
    options.disks = {disk.path()};
    NullProgress progress;
    int failures = 0;
    Result<BackupReport> report = Error(Code::kInternal, "not yet run");
    for (; failures < 200 && !report.ok(); ++failures)
      report = run_backup(*opened, options, progress, repo::testing::test_limit());
    ASSERT_TRUE(report.ok()) << report.error().message();
    copy_objects(*copy, *memory_);
    expect_restores(report->point, {&disk});
    disk.write(10 * kMiB, random_bytes(plan.seed, 3 * kMiB));
  }
}

TEST_F(BackupTest, AParentBeingRemovedIsNotReferredTo) {
  Image disk(folder_.path(), "disk.img", 12 * kMiB);
  disk.write(0, random_bytes(1, 10 * kMiB));
  const repo::Point parent = back_up({&disk}).point;
  must(memory_->put_if_absent(repo::layout::tombstone(parent.record.machine, parent.record.id),
                              as_bytes("{}"), repo::testing::test_limit()));
  const BackupReport report = back_up({&disk});
  EXPECT_EQ(report.warnings.size(), 1u);
  EXPECT_EQ(new_bytes(report), 10 * kMiB);
  // Nothing of it lies in the parent's packs.
  must(memory_->list(
      repo::layout::packs_prefix(parent.record.machine, parent.record.id),
      [&](const store::ObjectInfo& info) {
        return memory_->remove(info.key, repo::testing::test_limit());
      },
      repo::testing::test_limit()));
  expect_restores(report.point, {&disk});
  EXPECT_EQ(new_bytes(back_up({&disk})), 0u);
}

TEST_F(BackupTest, AnInterruptedBackupWhoseParentIsRemovedStartsAnew) {
  Image disk(folder_.path(), "disk.img", 48 * kMiB);
  disk.write(0, random_bytes(1, kMiB));
  const repo::Point parent = back_up({&disk}).point;
  disk.write(0, random_bytes(2, 48 * kMiB));
  std::stop_source stop;
  Watcher cancel = when_a_pack_is_stored(40 * kMiB, [&] { stop.request_stop(); });
  ASSERT_FALSE(try_backup({&disk}, cancel, CancelToken(stop.get_token())).ok());
  must(memory_->put_if_absent(repo::layout::tombstone(parent.record.machine, parent.record.id),
                              as_bytes("{}"), repo::testing::test_limit()));
  // The session without a parent is interrupted as well, and that one goes on.
  std::stop_source again;
  Watcher cancel_again = when_a_pack_is_stored(40 * kMiB, [&] { again.request_stop(); });
  ASSERT_FALSE(try_backup({&disk}, cancel_again, CancelToken(again.get_token())).ok());
  EXPECT_FALSE(journal()->header.parent);
  const BackupReport report = back_up({&disk});
  EXPECT_TRUE(report.resumed);
  EXPECT_LT(new_bytes(report), 48 * kMiB);
}

TEST_F(BackupTest, AFencedSessionIsGivenUp) {
  Image disk(folder_.path(), "disk.img", 48 * kMiB);
  disk.write(0, random_bytes(1, 48 * kMiB));
  Watcher fence = when_a_pack_is_stored(40 * kMiB, [&] {
    const auto machines = must(repository_.get().machines(nullptr, repo::testing::test_limit()));
    must(
        memory_->put_if_absent(repo::layout::session_end(machines[0].id, journal()->header.session),
                               repo::fenced_end(), repo::testing::test_limit()));
  });
  const auto fenced = try_backup({&disk}, fence);
  ASSERT_FALSE(fenced.ok());
  EXPECT_EQ(fenced.error().code(), Code::kConflict);
  const BackupReport report = back_up({&disk});
  EXPECT_FALSE(report.resumed);
  EXPECT_EQ(report.point.record.sequence, 1u);
}

TEST_F(BackupTest, ASecondBackupOfTheServerIsRefused) {
  Image disk(folder_.path(), "disk.img", 12 * kMiB);
  disk.write(0, random_bytes(1, 12 * kMiB));
  std::optional<Code> second;
  Watcher meanwhile([&](const ProgressUpdate&) {
    if (!second) second = try_backup({&disk}).error().code();
  });
  ASSERT_TRUE(try_backup({&disk}, meanwhile).ok());
  EXPECT_EQ(second, Code::kConflict);
}

// ---- a crash at each step after the commit is completed by the next run

TEST_F(BackupTest, ACommitThatWasNotNotedDownIsFound) {
  Image disk(folder_.path(), "disk.img", 12 * kMiB);
  disk.write(0, random_bytes(1, 10 * kMiB));
  const repo::Point first = back_up({&disk}).point;
  const Bytes tags = must(os::read_file(server_file("disk-0.tags"), kGiB));
  const Bytes state = must(os::read_file(server_file("state.json"), kGiB));
  Bytes journal_before;
  Bytes updates;
  disk.write(kMiB, random_bytes(2, 8192));
  Watcher keep([&](const ProgressUpdate& update) {
    if (update.stage != "uploading") return;
    journal_before = must(os::read_file(server_file("session.journal"), kGiB));
    updates = must(os::read_file(server_file("disk-0.tags.new"), kGiB));
  });
  const repo::Point second = must(try_backup({&disk}, keep)).point;
  // Everything as it was at the moment of the commit.
  const auto set_back = [&] {
    must(os::write_file_durably(server_file("disk-0.tags"), tags));
    must(os::write_file_durably(server_file("state.json"), state));
    must(os::write_file_durably(server_file("session.journal"), journal_before));
    must(os::write_file_durably(server_file("disk-0.tags.new"), updates));
  };
  set_back();
  disk.write(2 * kMiB, random_bytes(3, 4096));
  const BackupReport third = back_up({&disk});
  EXPECT_EQ(third.point.record.previous, second.record.id);
  EXPECT_EQ(new_bytes(third), 4096u);
  // Tag updates of another attempt than the committed one describe nothing.
  set_back();
  updates[updates.size() - 1] ^= 1;
  must(os::write_file_durably(server_file("disk-0.tags.new"), updates));
  EXPECT_EQ(back_up({&disk}).warnings.size(), 1u);
}
}  // namespace
}  // namespace reclo::backup
