#include "os/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>

#include "base/encoding.h"

namespace reclo::os {
namespace {

Error failed(std::string_view what, const std::string& path) {
  const int saved = errno;
  return Error::from_errno(saved, fmt::format("{} {}", what, path));
}

Result<std::string> temp_name_beside(const std::string& path) {
  uint8_t random[8];
  if (::getrandom(random, sizeof random, 0) != sizeof random)
    return Error::from_errno(errno, "getrandom");
  return join_path(parent_path(path), std::string(kTempPrefix) + to_hex(random));
}

// Writes and fsyncs a temporary file in the folder of `path`.
Result<std::string> write_temp_beside(const std::string& path, ByteSpan content, unsigned mode) {
  RECLO_ASSIGN_OR_RETURN(const std::string temp, temp_name_beside(path));
  Fd fd(::open(temp.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (!fd.valid()) return failed("create", temp);
  Status status = write_all(fd, content);
  if (status.ok()) status = fsync(fd);
  if (status.ok()) status = fd.close();
  if (!status.ok()) {
    ::unlink(temp.c_str());
    return std::move(status).error().with("write " + path);
  }
  return temp;
}

}  // namespace

std::string join_path(std::string_view folder, std::string_view name) {
  if (folder.empty()) return std::string(name);
  std::string out(folder);
  if (out.back() != '/') out.push_back('/');
  out.append(name);
  return out;
}

std::string parent_path(std::string_view path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  if (slash == 0) return "/";
  return std::string(path.substr(0, slash));
}

std::string base_name(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

Result<Fd> open_file(const std::string& path, OpenMode mode) {
  int flags = O_CLOEXEC;
  if (mode == OpenMode::kRead) flags |= O_RDONLY;
  if (mode == OpenMode::kReadWrite) flags |= O_RDWR;
  if (mode == OpenMode::kCreate) flags |= O_RDWR | O_CREAT;
  Fd fd(::open(path.c_str(), flags, 0600));
  if (!fd.valid()) return failed("open", path);
  return fd;
}

Result<Bytes> read_file(const std::string& path, uint64_t size_bytes_max) {
  RECLO_ASSIGN_OR_RETURN(const Fd fd, open_file(path, OpenMode::kRead));
  Bytes out;
  uint8_t buffer[16384];
  for (;;) {
    const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failed("read", path);
    if (got == 0) return out;
    if (out.size() + static_cast<size_t>(got) > size_bytes_max)
      return Error(Code::kResourceExhausted,
                   fmt::format("{} is larger than {} bytes", path, size_bytes_max));
    out.insert(out.end(), buffer, buffer + got);
  }
}

Result<uint64_t> file_size_bytes(const std::string& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) return failed("stat", path);
  return static_cast<uint64_t>(info.st_size);
}

bool path_exists(const std::string& path) {
  struct stat info{};
  return ::lstat(path.c_str(), &info) == 0;
}

bool is_directory(const std::string& path) {
  struct stat info{};
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

Status read_at(const Fd& fd, uint64_t offset_bytes, MutableByteSpan out) {
  while (!out.empty()) {
    const ssize_t got = ::pread(fd.get(), out.data(), out.size(), static_cast<off_t>(offset_bytes));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::from_errno(errno, fmt::format("read at byte {}", offset_bytes));
    if (got == 0) return Error(Code::kIo, fmt::format("short read at byte {}", offset_bytes));
    out = out.subspan(static_cast<size_t>(got));
    offset_bytes += static_cast<uint64_t>(got);
  }
  return {};
}

Status write_at(const Fd& fd, uint64_t offset_bytes, ByteSpan data) {
  while (!data.empty()) {
    const ssize_t put =
        ::pwrite(fd.get(), data.data(), data.size(), static_cast<off_t>(offset_bytes));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return Error::from_errno(errno, fmt::format("write at byte {}", offset_bytes));
    data = data.subspan(static_cast<size_t>(put));
    offset_bytes += static_cast<uint64_t>(put);
  }
  return {};
}

Status write_all(const Fd& fd, ByteSpan data) {
  while (!data.empty()) {
    const ssize_t put = ::write(fd.get(), data.data(), data.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return Error::from_errno(errno, "write");
    data = data.subspan(static_cast<size_t>(put));
  }
  return {};
}

Status fsync(const Fd& fd) {
  if (::fsync(fd.get()) != 0) return Error::from_errno(errno, "fsync");
  return {};
}

Status fsync_directory(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return failed("open folder", path);
  if (::fsync(fd.get()) != 0) return failed("fsync folder", path);
  return {};
}

Status write_file_durably(const std::string& path, ByteSpan content, unsigned mode) {
  RECLO_ASSIGN_OR_RETURN(const std::string temp, write_temp_beside(path, content, mode));
  if (::rename(temp.c_str(), path.c_str()) != 0) {
    Error error = failed("rename to", path);
    ::unlink(temp.c_str());
    return error;
  }
  return fsync_directory(parent_path(path));
}

Status create_file_durably(const std::string& path, ByteSpan content, unsigned mode) {
  RECLO_ASSIGN_OR_RETURN(const std::string temp, write_temp_beside(path, content, mode));
  // link() fails when the name is taken, which rename() does not.
  const int linked = ::link(temp.c_str(), path.c_str());
  Status status;
  if (linked != 0) status = failed("create", path);
  ::unlink(temp.c_str());
  RECLO_TRY(status);
  return fsync_directory(parent_path(path));
}

Status make_directories(const std::string& path, unsigned mode) {
  if (is_directory(path)) return {};
  const std::string parent = parent_path(path);
  if (parent != path && !is_directory(parent)) RECLO_TRY(make_directories(parent, mode));
  if (::mkdir(path.c_str(), mode) != 0) {
    if (errno == EEXIST && is_directory(path)) return {};
    return failed("create folder", path);
  }
  return fsync_directory(parent);
}

Status remove_file(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return failed("remove", path);
  return {};
}

Status remove_tree(const std::string& path) {
  std::error_code failure;
  std::filesystem::remove_all(path, failure);
  if (failure) return Error::from_errno(failure.value(), "remove " + path);
  return {};
}

Status rename_durably(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) return failed("rename", from);
  return fsync_directory(parent_path(to));
}

Result<std::vector<std::string>> list_directory(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.c_str()), ::closedir);
  if (!folder) return failed("open folder", path);
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(folder.get());
    if (entry == nullptr) break;
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  if (errno != 0) return failed("read folder", path);
  return names;
}

Result<TempDir> TempDir::create(std::string_view prefix, const std::string& parent) {
  std::string folder = parent;
  if (folder.empty()) {
    const char* from_environment = std::getenv("TMPDIR");
    folder = from_environment != nullptr && *from_environment != '\0' ? from_environment : "/tmp";
  }
  std::string path = join_path(folder, std::string(prefix) + "XXXXXX");
  if (::mkdtemp(path.data()) == nullptr) return failed("create temporary folder", path);
  return TempDir(std::move(path));
}

TempDir& TempDir::operator=(TempDir&& other) noexcept {
  if (this != &other) {
    if (!path_.empty()) ignore_error(remove_tree(path_), "a temporary folder may stay behind");
    path_ = std::exchange(other.path_, {});
  }
  return *this;
}

TempDir::~TempDir() {
  if (!path_.empty()) ignore_error(remove_tree(path_), "a temporary folder may stay behind");
}

Result<FileLock> FileLock::acquire(const std::string& path) {
  RECLO_ASSIGN_OR_RETURN(Fd fd, open_file(path, OpenMode::kCreate));
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK)
      return Error(Code::kConflict, "another process holds the lock " + path);
    return failed("lock", path);
  }
  return FileLock(std::move(fd));
}

}  // namespace reclo::os
