// Files and folders: whole reads and writes, positioned I/O, durable creation.
//
// Crash safety: write_file_durably() and create_file_durably() leave either nothing or the whole
// content under the final name, whatever instruction the machine dies at: the bytes go to a
// temporary name in the same folder, are fsynced, linked or renamed into place, and the folder is
// fsynced. Temporary names start with kTempPrefix, so that readers and cleaners know them.
// All functions are safe from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "os/fd.h"

namespace reclo::os {

inline constexpr std::string_view kTempPrefix = ".tmp-";

enum class OpenMode { kRead, kReadWrite, kCreate /* read-write, made if missing, 0600 */ };

Result<Fd> open_file(const std::string& path, OpenMode mode);
/// Errors: kResourceExhausted when the file is larger than `size_bytes_max`.
Result<Bytes> read_file(const std::string& path, uint64_t size_bytes_max);
Result<uint64_t> file_size_bytes(const std::string& path);
bool path_exists(const std::string& path);
bool is_directory(const std::string& path);

/// Reads exactly out.size() bytes. Errors: kIo with "short read" past the end.
Status read_at(const Fd& fd, uint64_t offset_bytes, MutableByteSpan out);
Status write_at(const Fd& fd, uint64_t offset_bytes, ByteSpan data);
Status write_all(const Fd& fd, ByteSpan data);
Status fsync(const Fd& fd);
Status fsync_directory(const std::string& path);

/// Replaces `path` as a whole, mode 0600 unless given.
Status write_file_durably(const std::string& path, ByteSpan content, unsigned mode = 0600);
/// Creates `path`; kAlreadyExists when it is there: exactly one of many concurrent callers wins.
Status create_file_durably(const std::string& path, ByteSpan content, unsigned mode = 0600);
/// Creates the folder and its parents (mode for new ones), each durably. Existing is fine.
Status make_directories(const std::string& path, unsigned mode = 0700);
/// Removing what is not there is success.
Status remove_file(const std::string& path);
Status remove_tree(const std::string& path);
Status rename_durably(const std::string& from, const std::string& to);
/// Names in a folder, unsorted, without "." and "..".
Result<std::vector<std::string>> list_directory(const std::string& path);

std::string join_path(std::string_view folder, std::string_view name);
/// The folder part: "/a/b" → "/a", "b" → ".".
std::string parent_path(std::string_view path);
std::string base_name(std::string_view path);

/// A folder of its own under $TMPDIR (or `parent`), removed with its contents on destruction.
class TempDir {
 public:
  static Result<TempDir> create(std::string_view prefix, const std::string& parent = "");
  TempDir(TempDir&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TempDir& operator=(TempDir&& other) noexcept;
  ~TempDir();
  const std::string& path() const { return path_; }

 private:
  explicit TempDir(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

/// An advisory lock on a file (flock), held while the object lives. It ends with the process, so a
/// crash leaves nothing stale. Errors: kConflict when another process (or object) holds it.
class FileLock {
 public:
  static Result<FileLock> acquire(const std::string& path);

 private:
  explicit FileLock(Fd fd) : fd_(std::move(fd)) {}
  Fd fd_;
};

}  // namespace reclo::os
