// What the tests of whole backups share: disks that know what they hold, and a fixture that backs
// them up into a store in memory and reads every point back through its map, byte by byte.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "backup/backup.h"
#include "backup/journal.h"
#include "base/limits.h"
#include "os/file.h"
#include "repo/layout.h"
#include "repo/map_reader.h"
#include "repo/slot_reader.h"
#include "repo/test_repository.h"
#include "store/memory_store.h"

namespace reclo::backup::testing {

using repo::testing::must;

inline uint64_t mix(uint64_t value) {
  value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9u;
  value = (value ^ value >> 27) * 0x94d049bb133111ebu;
  return value ^ value >> 31;
}

inline Bytes random_bytes(uint64_t seed, size_t size) {
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

}  // namespace reclo::backup::testing
