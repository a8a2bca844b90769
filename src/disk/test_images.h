// Disk images for this module's tests, made on the fly by the tools that users' disks come from.
#pragma once

#include <gtest/gtest.h>
#include <sys/statvfs.h>

#include <memory>
#include <string>
#include <vector>

#include "disk/block_source.h"
#include "disk/readable.h"
#include "os/file.h"
#include "os/subprocess.h"

namespace reclo::disk::testing {

/// A temporary folder; fails the test when it cannot be made.
class ImageFolder {
 public:
  ImageFolder() : dir_(os::TempDir::create("reclo-disk-test-", parent()).value()) {}
  std::string path(const std::string& name) const { return os::join_path(dir_.path(), name); }
  const std::string& folder() const { return dir_.path(); }

 private:
  // In memory where there is room: the tests sync a lot.
  static std::string parent() {
    struct statvfs info{};
    constexpr uint64_t kWantedBytes = uint64_t{1} << 30;
    const std::string memory = "/dev/shm";
    const bool has_room =
        ::statvfs(memory.c_str(), &info) == 0 && info.f_bavail * info.f_frsize >= kWantedBytes;
    return has_room ? memory : "";
  }
  os::TempDir dir_;
};

inline CancelToken test_limit() { return CancelToken().with_timeout(std::chrono::seconds(120)); }

/// Runs a tool that must succeed.
inline std::string run(const std::vector<std::string>& argv) {
  auto out = os::run_checked(argv, test_limit());
  EXPECT_TRUE(out.ok()) << (out.ok() ? "" : out.error().message());
  return out.ok() ? *out : "";
}
/// Runs a shell script that must succeed (tests only: the programs never use a shell).
inline std::string shell(const std::string& script) {
  return run({"bash", "-euo", "pipefail", "-c", script});
}

inline void write_file(const std::string& path, ByteSpan content) {
  const Status status = os::write_file_durably(path, content);
  ASSERT_TRUE(status.ok()) << status.error().message();
}
inline void make_sparse_file(const std::string& path, uint64_t size_bytes) {
  run({"truncate", "-s", std::to_string(size_bytes), path});
}
inline void patch_file(const std::string& path, uint64_t offset_bytes, ByteSpan bytes) {
  auto fd = os::open_file(path, os::OpenMode::kCreate);
  ASSERT_TRUE(fd.ok());
  ASSERT_TRUE(os::write_at(*fd, offset_bytes, bytes).ok());
}

inline std::unique_ptr<BlockSource> must_open(const std::string& path) {
  auto source = open_source(path, test_limit());
  EXPECT_TRUE(source.ok()) << (source.ok() ? "" : source.error().message());
  return source.ok() ? std::move(source).value() : nullptr;
}

inline Bytes must_read(BlockSource& source, uint64_t offset_bytes, size_t size_bytes) {
  Bytes out(size_bytes);
  const Status status = source.read_at(offset_bytes, out);
  EXPECT_TRUE(status.ok()) << (status.ok() ? "" : status.error().message());
  return out;
}

inline Readable readable_of(BlockSource& source) {
  return {source.size_bytes(), [&source](uint64_t offset_bytes, MutableByteSpan out) {
            return source.read_at(offset_bytes, out);
          }};
}
inline Readable readable_of(ByteSpan bytes) {
  return {bytes.size(), [bytes](uint64_t offset_bytes, MutableByteSpan out) -> Status {
            if (offset_bytes > bytes.size() || out.size() > bytes.size() - offset_bytes)
              return Error(Code::kIo, "past the end");
            std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(offset_bytes), out.size(),
                        out.begin());
            return {};
          }};
}

/// Deterministic noise.
inline Bytes noise(size_t size_bytes, uint64_t seed) {
  Bytes out(size_bytes);
  for (uint8_t& byte : out) {
    seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
    byte = static_cast<uint8_t>(seed >> 56);
  }
  return out;
}

/// A loop device over a file, detached on destruction.
class LoopDevice {
 public:
  explicit LoopDevice(const std::string& file, const std::string& extra_flag = "") {
    std::vector<std::string> argv = {"losetup", "--find", "--show"};
    if (!extra_flag.empty()) argv.push_back(extra_flag);
    argv.push_back(file);
    path_ = run(argv);
    while (!path_.empty() && path_.back() == '\n') path_.pop_back();
  }
  LoopDevice(const LoopDevice&) = delete;
  LoopDevice& operator=(const LoopDevice&) = delete;
  ~LoopDevice() {
    if (!path_.empty()) run({"losetup", "--detach", path_});
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// A mounted device, unmounted on destruction.
class Mount {
 public:
  Mount(const std::string& device, std::string where, const std::string& options = "defaults")
      : where_(std::move(where)) {
    run({"mkdir", "-p", where_});
    run({"mount", "-o", options, device, where_});
  }
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;
  ~Mount() { run({"umount", where_}); }
  const std::string& where() const { return where_; }

 private:
  const std::string where_;
};

}  // namespace reclo::disk::testing
