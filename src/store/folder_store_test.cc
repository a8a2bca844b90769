// What only a folder can get wrong; the contract itself is tested in conformance_test.cc.
#include "store/folder_store.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "base/units.h"
#include "os/file.h"
#include "store/open_store.h"

namespace reclo::store {
namespace {

constexpr uint64_t kAny = 1 << 20;

class FolderStoreTest : public testing::Test {
 protected:
  std::string path(std::string_view name) const { return os::join_path(folder_.path(), name); }
  std::vector<std::string> keys(const std::string& prefix = "") {
    std::vector<std::string> out;
    EXPECT_TRUE(store_
                    ->list(
                        prefix,
                        [&](const ObjectInfo& info) -> Status {
                          out.push_back(info.key);
                          return {};
                        },
                        cancel_)
                    .ok());
    return out;
  }
  void make_file(const std::string& name) { std::ofstream(path(name)) << "x"; }

  CancelToken cancel_;
  os::TempDir folder_ = os::TempDir::create("reclo-test-").value();
  std::unique_ptr<FolderStore> store_ = FolderStore::open(folder_.path(), false).value();
};

TEST_F(FolderStoreTest, AMissingFolderIsMadeOnlyWhenAsked) {
  const std::string missing = path("a/b");
  EXPECT_EQ(FolderStore::open(missing, false).error().code(), Code::kNotFound);
  EXPECT_TRUE(FolderStore::open(missing, true).ok());
  EXPECT_TRUE(os::is_directory(missing));
}

TEST_F(FolderStoreTest, ReadsAndWritesNothingThroughSymbolicLinks) {
  const os::TempDir elsewhere = os::TempDir::create("reclo-test-").value();
  std::ofstream(elsewhere.path() + "/secret") << "secret";
  ASSERT_EQ(::symlink(elsewhere.path().c_str(), path("out").c_str()), 0);
  ASSERT_EQ(::symlink((elsewhere.path() + "/secret").c_str(), path("file").c_str()), 0);

  EXPECT_EQ(store_->get("out/secret", kAny, cancel_).error().code(), Code::kPermissionDenied);
  EXPECT_EQ(store_->get("file", kAny, cancel_).error().code(), Code::kPermissionDenied);
  EXPECT_EQ(store_->put_if_absent("out/new", as_bytes("x"), cancel_).error().code(),
            Code::kPermissionDenied);
  EXPECT_EQ(store_->remove("out/secret", cancel_).error().code(), Code::kPermissionDenied);
  const Status listed = store_->list("", [](const ObjectInfo&) { return ok_status(); }, cancel_);
  EXPECT_EQ(listed.error().code(), Code::kPermissionDenied);
  EXPECT_NE(listed.error().message().find("symbolic link"), std::string::npos);
  EXPECT_TRUE(os::path_exists(elsewhere.path() + "/secret"));
  EXPECT_FALSE(os::path_exists(elsewhere.path() + "/new"));
}

TEST_F(FolderStoreTest, ForeignFilesAreNotObjects) {
  make_file("with space");
  ASSERT_EQ(::mkdir(path("lost+found").c_str(), 0700), 0);
  ASSERT_EQ(::mkdir(path("empty").c_str(), 0700), 0);
  ASSERT_EQ(::mkfifo(path("fifo").c_str(), 0600), 0);
  ASSERT_TRUE(store_->put_if_absent("a/b", as_bytes("x"), cancel_).ok());
  EXPECT_EQ(keys(), std::vector<std::string>{"a/b"});
  EXPECT_EQ(store_->list_children("", cancel_).value(), std::vector<std::string>{"a/"});
  EXPECT_EQ(store_->get("fifo", kAny, cancel_).error().code(), Code::kNotFound);
  EXPECT_EQ(store_->get("a", kAny, cancel_).error().code(), Code::kNotFound);
}

TEST_F(FolderStoreTest, FilesInTheMakingAreHiddenAndRemovedAfterADay) {
  make_file(".tmp-0011223344556677");
  make_file(".tmp-8899aabbccddeeff");
  const timespec two_days_ago{::time(nullptr) - 2 * 86400, 0};
  const timespec times[2] = {two_days_ago, two_days_ago};
  ASSERT_EQ(::utimensat(AT_FDCWD, path(".tmp-0011223344556677").c_str(), times, 0), 0);
  EXPECT_TRUE(keys().empty());
  EXPECT_FALSE(os::path_exists(path(".tmp-0011223344556677")));
  EXPECT_TRUE(os::path_exists(path(".tmp-8899aabbccddeeff"))) << "may still be written";
  EXPECT_EQ(store_->get(".tmp-8899aabbccddeeff", kAny, cancel_).error().code(),
            Code::kInvalidArgument);
}

TEST_F(FolderStoreTest, RemovingTheLastObjectRemovesItsFolders) {
  ASSERT_TRUE(store_->put_if_absent("a/b/c", as_bytes("x"), cancel_).ok());
  ASSERT_TRUE(store_->put_if_absent("a/d", as_bytes("x"), cancel_).ok());
  ASSERT_TRUE(store_->remove("a/b/c", cancel_).ok());
  EXPECT_FALSE(os::path_exists(path("a/b")));
  ASSERT_TRUE(store_->remove("a/d", cancel_).ok());
  EXPECT_FALSE(os::path_exists(path("a")));
  EXPECT_TRUE(os::is_directory(folder_.path()));
}

// Runs in a child with a mount namespace of its own: 0 when put() reported the full file system.
int put_into_a_full_file_system(const std::string& mount_point) {
  if (::unshare(CLONE_NEWNS | (::geteuid() == 0 ? 0 : CLONE_NEWUSER)) != 0) return 10;
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return 11;
  if (::mount("none", mount_point.c_str(), "tmpfs", 0, "size=64k") != 0) return 12;
  const auto store = FolderStore::open(mount_point, false);
  if (!store.ok()) return 13;
  const Status put = (*store)->put_if_absent("big", Bytes(kMiB, 7), CancelToken());
  if (put.ok() || put.error().code() != Code::kNoSpace) return 14;
  if (put.error().message().find("free some space") == std::string::npos) return 15;
  const auto names = os::list_directory(mount_point);
  return names.ok() && names->empty() ? 0 : 16;
}

TEST_F(FolderStoreTest, AFullFileSystemSaysSoAndKeepsNothingHalfWritten) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(put_into_a_full_file_system(folder_.path()));
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << "exit code " << WEXITSTATUS(status);
}

TEST_F(FolderStoreTest, ContentOfEverySizeIsStoredExactly) {
  // Around the sizes at which large objects are written past the page cache, in pieces and blocks.
  int number = 0;
  for (const uint64_t size : {kMiB - 1, kMiB, kMiB + 1, kMiB + 4095, kMiB + 4096, 4 * kMiB,
                              4 * kMiB + 17, 9 * kMiB - 5}) {
    Bytes content(size);
    for (size_t i = 0; i < content.size(); ++i) content[i] = static_cast<uint8_t>(i * 7 + i / 4099);
    const std::string key = "sizes/" + std::to_string(number++);
    ASSERT_TRUE(store_->put_if_absent(key, content, cancel_).ok()) << size;
    EXPECT_TRUE(store_->get(key, 16 * kMiB, cancel_).value() == content) << size;
    EXPECT_EQ(store_->stat(key, cancel_).value().size_bytes, size);
  }
}

TEST_F(FolderStoreTest, OpensByPathAndByFileUrl) {
  StoreOptions options;
  options.url = "file://" + folder_.path() + "/";
  auto store = open_store(options, cancel_);
  ASSERT_TRUE(store.ok());
  EXPECT_EQ((*store)->description(), folder_.path());
  options.url = "ftp://host/x";
  EXPECT_EQ(open_store(options, cancel_).error().code(), Code::kInvalidArgument);
  options.url = "";
  EXPECT_EQ(open_store(options, cancel_).error().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace reclo::store
