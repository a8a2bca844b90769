#include "store/folder_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/kill_point.h"
#include "base/units.h"
#include "os/file.h"
#include "os/random.h"
#include "store/object_file.h"

namespace reclo::store {

using os::Fd;

namespace {

// Between two pieces a transfer looks whether it should stop.
constexpr size_t kPieceSizeBytes = 4 * kMiB;
constexpr auto kStaleAfter = std::chrono::hours(24);

WallTime modified_of(const struct stat& info) {
  return WallTime(std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::seconds(info.st_mtim.tv_sec) + std::chrono::nanoseconds(info.st_mtim.tv_nsec)));
}

std::string random_temp_name() {
  uint8_t random[8];
  os::fill_random(random);
  return std::string(os::kTempPrefix) + to_hex(random);
}

Status read_pieces(const Fd& fd, uint64_t offset_bytes, MutableByteSpan out,
                   const CancelToken& cancel) {
  while (!out.empty()) {
    RECLO_TRY(cancel.check());
    const size_t piece_bytes = std::min(out.size(), kPieceSizeBytes);
    RECLO_TRY(os::read_at(fd, offset_bytes, out.first(piece_bytes)));
    offset_bytes += piece_bytes;
    out = out.subspan(piece_bytes);
  }
  return {};
}

bool has_no_hard_links(int os_error) {
  return os_error == EPERM || os_error == EOPNOTSUPP || os_error == ENOSYS || os_error == EMLINK;
}

// NFS sends a link() again when its answer was lost and then reports EEXIST for our own success;
// the second link of our file tells the two apart.
bool is_linked_twice(const Fd& folder, const std::string& temp) {
  struct stat info{};
  return ::fstatat(folder.get(), temp.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 &&
         info.st_nlink == 2;
}

}  // namespace

Result<std::unique_ptr<FolderStore>> FolderStore::open(const std::string& folder, bool create) {
  std::string absolute = folder;
  if (!absolute.starts_with('/')) {
    char* here = ::getcwd(nullptr, 0);
    if (here == nullptr) return Error::from_errno(errno, "find the current folder");
    absolute = os::join_path(here, folder);
    ::free(here);
  }
  while (absolute.size() > 1 && absolute.ends_with('/')) absolute.pop_back();
  if (create) RECLO_TRY(os::make_directories(absolute));
  RECLO_ASSIGN_OR_RETURN(FolderTree tree, FolderTree::open(absolute));
  return std::unique_ptr<FolderStore>(new FolderStore(std::move(tree)));
}

Error FolderStore::failed(int os_error, std::string_view what, const std::string& key) const {
  const std::string path = os::join_path(tree_.root(), key);
  if (os_error == ENOSPC || os_error == EDQUOT)
    return Error::from_errno(os_error,
                             fmt::format("{} {}: the repository's file system or quota is "
                                         "full, free some space and run it again",
                                         what, path));
  return Error::from_errno(os_error, fmt::format("{} {}", what, path));
}

Status FolderStore::write_temp(const Fd& folder, const std::string& temp, const std::string& key,
                               ByteSpan content, const CancelToken& cancel) const {
  Fd fd(::openat(folder.get(), temp.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                 0600));
  if (!fd.valid()) return failed(errno, "write", key);
  if (Status written = write_object_file(fd, content, cancel); !written.ok())
    return written.error().os_error() == 0 ? written
                                           : failed(written.error().os_error(), "write", key);
  RECLO_KILL_POINT("store.folder.before_fsync");
  if (::fsync(fd.get()) != 0) return failed(errno, "fsync", key);
  if (Status closed = fd.close(); !closed.ok())
    return failed(closed.error().os_error(), "close", key);
  return {};
}

Status FolderStore::link_into_place(const Fd& folder, const std::string& temp,
                                    const std::string& key) const {
  const std::string name = os::base_name(key);
  if (::linkat(folder.get(), temp.c_str(), folder.get(), name.c_str(), 0) == 0) return {};
  int os_error = errno;
  if (os_error == EEXIST && is_linked_twice(folder, temp)) return {};
  if (has_no_hard_links(os_error)) {
    if (::renameat2(folder.get(), temp.c_str(), folder.get(), name.c_str(), RENAME_NOREPLACE) == 0)
      return {};
    os_error = errno;
    if (os_error == EINVAL)
      return Error(Code::kUnsupported,
                   fmt::format("the file system of {} can neither link files nor rename them "
                               "without replacing: a repository cannot be kept safe on it",
                               tree_.root()));
  }
  if (os_error == EEXIST) return already_exists(key);
  return failed(os_error, "create", key);
}

Status FolderStore::put_if_absent(const std::string& key, ByteSpan content,
                                  const CancelToken& cancel) {
  RECLO_TRY(check_key(key));
  RECLO_TRY(cancel.check());
  // A folder that was just made can be pruned by a concurrent remove() before it gets its first
  // file: make it again.
  for (int round = 0;; ++round) {
    RECLO_ASSIGN_OR_RETURN(const Fd folder, tree_.open_or_make_folder(folder_of(key)));
    const std::string temp = random_temp_name();
    Status done;
    if (::faccessat(folder.get(), os::base_name(key).c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0)
      done = already_exists(key);  // not worth writing; the link below decides the races
    else
      done = write_temp(folder, temp, key, content, cancel);
    RECLO_KILL_POINT("store.folder.before_link");
    if (done.ok()) done = link_into_place(folder, temp, key);
    RECLO_KILL_POINT("store.folder.after_link");
    ::unlinkat(folder.get(), temp.c_str(), 0);
    if (!done.ok() && done.error().os_error() == ENOENT && round < 16) continue;
    if (done.ok()) counters_.add_put(content.size());
    if (done.ok() || done.error().code() == Code::kAlreadyExists) {
      // Also for the loser: what it now knows to exist must still exist after a power cut.
      RECLO_TRY(fsync_folder(folder, os::join_path(tree_.root(), folder_of(key))));
    }
    return done;
  }
}

Result<Fd> FolderStore::open_object(const std::string& key, uint64_t& size_bytes) const {
  // O_NONBLOCK: a FIFO under this name must not hang us.
  Result<Fd> fd = tree_.open_beneath(key, O_RDONLY | O_NONBLOCK);
  if (!fd.ok()) {
    const int os_error = fd.error().os_error();
    if (os_error == ENOENT || os_error == ENOTDIR)
      return Error(Code::kNotFound, fmt::format("no object '{}' in {}", key, tree_.root()));
    return fd;
  }
  struct stat info{};
  if (::fstat(fd->get(), &info) != 0) return failed(errno, "stat", key);
  if (!S_ISREG(info.st_mode))
    return Error(Code::kNotFound,
                 fmt::format("'{}' in {} is not a file, so no object", key, tree_.root()));
  size_bytes = static_cast<uint64_t>(info.st_size);
  return fd;
}

Result<Bytes> FolderStore::get(const std::string& key, uint64_t size_bytes_max,
                               const CancelToken& cancel) {
  RECLO_TRY(check_key(key));
  RECLO_TRY(cancel.check());
  uint64_t size_bytes = 0;
  RECLO_ASSIGN_OR_RETURN(const Fd fd, open_object(key, size_bytes));
  if (size_bytes > size_bytes_max)
    return Error(Code::kResourceExhausted,
                 fmt::format("object '{}' has {} bytes, more than the {} allowed", key, size_bytes,
                             size_bytes_max));
  Bytes content(size_bytes);
  RECLO_TRY_WITH(read_pieces(fd, 0, content, cancel), os::join_path(tree_.root(), key));
  counters_.add_get(content.size());
  return content;
}

Result<Bytes> FolderStore::get_range(const std::string& key, ByteRange range,
                                     const CancelToken& cancel) {
  RECLO_TRY(check_key(key));
  RECLO_TRY(check_range(key, range));
  RECLO_TRY(cancel.check());
  uint64_t size_bytes = 0;
  RECLO_ASSIGN_OR_RETURN(const Fd fd, open_object(key, size_bytes));
  if (range.offset_bytes > size_bytes || range.size_bytes > size_bytes - range.offset_bytes)
    return range_past_end(key, range, size_bytes);
  Bytes content(range.size_bytes);
  RECLO_TRY_WITH(read_pieces(fd, range.offset_bytes, content, cancel),
                 os::join_path(tree_.root(), key));
  counters_.add_get(content.size());
  return content;
}

Result<ObjectInfo> FolderStore::stat(const std::string& key, const CancelToken& cancel) {
  RECLO_TRY(check_key(key));
  RECLO_TRY(cancel.check());
  ++counters_.requests_other;
  uint64_t size_bytes = 0;
  RECLO_ASSIGN_OR_RETURN(const Fd fd, open_object(key, size_bytes));
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return failed(errno, "stat", key);
  return ObjectInfo{key, size_bytes, modified_of(info)};
}

Status FolderStore::remove(const std::string& key, const CancelToken& cancel) {
  RECLO_TRY(check_key(key));
  RECLO_TRY(cancel.check());
  ++counters_.requests_other;
  const std::string folder_name = folder_of(key);
  {
    const Result<Fd> folder = tree_.open_beneath(folder_name, O_RDONLY | O_DIRECTORY);
    if (!folder.ok()) {
      if (folder.error().code() == Code::kNotFound) return {};
      return Error(folder.error());
    }
    if (::unlinkat(folder->get(), os::base_name(key).c_str(), 0) != 0) {
      if (errno == ENOENT || errno == EISDIR) return {};
      return failed(errno, "remove", key);
    }
    // Removals are made in an order (a point before its packs) that a power cut must not change.
    RECLO_TRY(fsync_folder(*folder, os::join_path(tree_.root(), folder_name)));
  }
  tree_.prune_empty_folders(folder_name);
  return {};
}

// ---- listing

Result<std::vector<FolderStore::Entry>> FolderStore::read_folder(const std::string& folder,
                                                                 std::string_view name_prefix,
                                                                 bool clean_up) const {
  std::vector<Entry> entries;
  Result<Fd> fd = tree_.open_beneath(folder, O_RDONLY | O_DIRECTORY);
  if (!fd.ok()) {
    const int os_error = fd.error().os_error();
    if (os_error == ENOENT || os_error == ENOTDIR) return entries;
    return std::move(fd).error();
  }
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(fd->get()), ::closedir);
  if (!stream) return failed(errno, "list", folder);
  const int folder_fd = fd->release();
  const WallTime stale_before = wall_now() - kStaleAfter;
  for (;;) {
    errno = 0;
    const dirent* item = ::readdir(stream.get());
    if (item == nullptr) break;
    Entry entry;
    entry.name = item->d_name;
    const bool is_temp = entry.name.starts_with(os::kTempPrefix);
    if (!is_temp && (!entry.name.starts_with(name_prefix) || !check_key(entry.name).ok())) continue;
    struct stat info{};
    if (::fstatat(folder_fd, item->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) continue;  // removed meanwhile
      return failed(errno, "stat", os::join_path(folder, entry.name));
    }
    entry.size_bytes = static_cast<uint64_t>(info.st_size);
    entry.modified = modified_of(info);
    if (is_temp) {
      if (clean_up && S_ISREG(info.st_mode) && entry.modified < stale_before)
        ::unlinkat(folder_fd, item->d_name, 0);
      continue;
    }
    if (S_ISLNK(info.st_mode))  // reports it as open_beneath() words it, instead of hiding objects
      RECLO_TRY(tree_.open_beneath(os::join_path(folder, entry.name), O_RDONLY | O_NONBLOCK));
    if (S_ISDIR(info.st_mode)) entry.name.push_back('/');
    if (S_ISDIR(info.st_mode) || S_ISREG(info.st_mode)) entries.push_back(std::move(entry));
  }
  if (errno != 0) return failed(errno, "list", folder);
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.name < b.name; });
  return entries;
}

Status FolderStore::list_folder(const std::string& folder, std::string_view name_prefix,
                                const Visit& visit, const CancelToken& cancel) const {
  RECLO_TRY(cancel.check());
  RECLO_ASSIGN_OR_RETURN(const std::vector<Entry> entries, read_folder(folder, name_prefix, true));
  for (const Entry& entry : entries) {
    std::string path = os::join_path(folder, entry.name);
    if (path.ends_with('/')) {
      path.pop_back();
      // Keys have a bounded length, which bounds this recursion too.
      if (check_key(path).ok()) RECLO_TRY(list_folder(path, "", visit, cancel));
    } else if (check_key(path).ok()) {
      RECLO_TRY(visit(ObjectInfo{path, entry.size_bytes, entry.modified}));
    }
  }
  return {};
}

Status FolderStore::list(const std::string& prefix, const Visit& visit, const CancelToken& cancel) {
  RECLO_TRY(check_prefix(prefix));
  ++counters_.requests_list;
  const size_t slash = prefix.rfind('/');
  const std::string folder = folder_of(prefix);
  const std::string name_prefix = slash == std::string::npos ? prefix : prefix.substr(slash + 1);
  return list_folder(folder, name_prefix, visit, cancel);
}

Result<bool> FolderStore::holds_objects(const std::string& folder,
                                        const CancelToken& cancel) const {
  RECLO_TRY(cancel.check());
  RECLO_ASSIGN_OR_RETURN(const std::vector<Entry> entries, read_folder(folder, "", false));
  for (const Entry& entry : entries) {
    std::string path = os::join_path(folder, entry.name);
    if (!path.ends_with('/')) return true;
    path.pop_back();
    if (!check_key(path).ok()) continue;
    RECLO_ASSIGN_OR_RETURN(const bool found, holds_objects(path, cancel));
    if (found) return true;
  }
  return false;
}

Result<std::vector<std::string>> FolderStore::list_children(const std::string& prefix,
                                                            const CancelToken& cancel) {
  RECLO_TRY(check_folder_prefix(prefix));
  ++counters_.requests_list;
  const std::string folder = folder_of(prefix);
  RECLO_ASSIGN_OR_RETURN(const std::vector<Entry> entries, read_folder(folder, "", true));
  std::vector<std::string> names;
  for (const Entry& entry : entries) {
    if (entry.name.ends_with('/')) {
      // A crash may leave an empty folder; S3 has no such thing, so nobody shall see one.
      const std::string path = os::join_path(folder, entry.name.substr(0, entry.name.size() - 1));
      RECLO_ASSIGN_OR_RETURN(const bool found, holds_objects(path, cancel));
      if (!found) continue;
    }
    names.push_back(entry.name);
  }
  return names;
}

}  // namespace reclo::store
