// The probe passes a good store and finds out bad ones, cleaning up either way.
#include "store/probe.h"

#include <gtest/gtest.h>

#include "os/file.h"
#include "store/folder_store.h"
#include "store/memory_store.h"

namespace reclo::store {
namespace {

// As MemoryStore, with the faults that real services have.
class BadStore final : public ObjectStore {
 public:
  bool overwrites = false;      // If-None-Match ignored
  bool lists_late = false;      // eventual consistency
  bool ignores_ranges = false;  // the whole object instead
  bool denies_removal = false;
  std::stop_source* stops_after_put = nullptr;

  Status put_if_absent(const std::string& key, ByteSpan content,
                       const CancelToken& cancel) override {
    if (overwrites) {
      memory_.overwrite(key, to_bytes(content));
      return {};
    }
    Status put = memory_.put_if_absent(key, content, cancel);
    if (stops_after_put != nullptr) stops_after_put->request_stop();
    return put;
  }
  Result<Bytes> get(const std::string& key, uint64_t max, const CancelToken& cancel) override {
    return memory_.get(key, max, cancel);
  }
  Result<Bytes> get_range(const std::string& key, ByteRange range,
                          const CancelToken& cancel) override {
    return ignores_ranges ? memory_.get(key, 1 << 20, cancel)
                          : memory_.get_range(key, range, cancel);
  }
  Result<ObjectInfo> stat(const std::string& key, const CancelToken& cancel) override {
    return memory_.stat(key, cancel);
  }
  Status list(const std::string& prefix, const std::function<Status(const ObjectInfo&)>& visit,
              const CancelToken& cancel) override {
    return lists_late ? ok_status() : memory_.list(prefix, visit, cancel);
  }
  Result<std::vector<std::string>> list_children(const std::string& prefix,
                                                 const CancelToken& cancel) override {
    return memory_.list_children(prefix, cancel);
  }
  Status remove(const std::string& key, const CancelToken& cancel) override {
    if (denies_removal) return Error(Code::kPermissionDenied, "no s3:DeleteObject");
    return memory_.remove(key, cancel);
  }
  StoreCounters counters() const override { return memory_.counters(); }
  std::string description() const override { return "bad"; }

 private:
  MemoryStore memory_;
};

size_t object_count(ObjectStore& store) {
  size_t count = 0;
  const Status listed = store.list(
      "",
      [&](const ObjectInfo&) -> Status {
        ++count;
        return {};
      },
      CancelToken());
  EXPECT_TRUE(listed.ok());
  return count;
}

TEST(ProbeTest, AFolderKeepsItsPromises) {
  const os::TempDir folder = os::TempDir::create("reclo-test-").value();
  const auto store = FolderStore::open(folder.path(), false).value();
  const ProbeReport report = probe_store(*store, "probe/", CancelToken()).value();
  EXPECT_TRUE(report.atomic_create && report.list_after_put && report.range_read && report.remove);
  EXPECT_EQ(report.note, "");
  EXPECT_GT(report.latency_ms, 0);
  EXPECT_EQ(object_count(*store), 0u);
  EXPECT_TRUE(os::list_directory(folder.path())->empty());
}

TEST(ProbeTest, FindsAStoreWhereEveryWriterWins) {
  BadStore store;
  store.overwrites = true;
  const ProbeReport report = probe_store(store, "probe/", CancelToken()).value();
  EXPECT_FALSE(report.atomic_create);
  EXPECT_TRUE(report.list_after_put && report.range_read && report.remove);
  EXPECT_NE(report.note.find("32 writers"), std::string::npos) << report.note;
  EXPECT_EQ(object_count(store), 0u);
}

TEST(ProbeTest, FindsLateListsAndInexactRanges) {
  BadStore store;
  store.lists_late = store.ignores_ranges = true;
  const ProbeReport report = probe_store(store, "probe/", CancelToken()).value();
  EXPECT_TRUE(report.atomic_create && report.remove);
  EXPECT_FALSE(report.list_after_put);
  EXPECT_FALSE(report.range_read);
}

TEST(ProbeTest, ToleratesThatRemovingIsDenied) {
  BadStore store;
  store.denies_removal = true;
  const ProbeReport report = probe_store(store, "", CancelToken()).value();
  EXPECT_TRUE(report.atomic_create);
  EXPECT_FALSE(report.remove);
  EXPECT_NE(report.note.find("s3:DeleteObject"), std::string::npos);
}

TEST(ProbeTest, AStoppedProbeCleansUp) {
  std::stop_source stop;
  BadStore store;
  store.stops_after_put = &stop;
  EXPECT_EQ(probe_store(store, "p/", CancelToken(stop.get_token())).error().code(),
            Code::kCancelled);
  EXPECT_GT(store.counters().requests_put, 0u);
  EXPECT_EQ(object_count(store), 0u);
  EXPECT_EQ(probe_store(store, "no-folder", CancelToken()).error().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace reclo::store
