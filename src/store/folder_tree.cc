#include "store/folder_tree.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "os/file.h"

namespace reclo::store {

using os::Fd;

namespace {

Error failed(int os_error, std::string_view what, const FolderTree& tree, const std::string& path) {
  return Error::from_errno(os_error, fmt::format("{} {}", what, os::join_path(tree.root(), path)));
}

}  // namespace

Result<FolderTree> FolderTree::open(const std::string& root) {
  Fd fd(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return Error::from_errno(errno, fmt::format("open folder {}", root));
  return FolderTree(root, std::move(fd));
}

Result<Fd> FolderTree::open_beneath(const std::string& path, int flags) const {
  open_how how{};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  const char* name = path.empty() ? "." : path.c_str();
  for (;;) {
    Fd fd(static_cast<int>(::syscall(SYS_openat2, fd_.get(), name, &how, sizeof how)));
    if (fd.valid()) return fd;
    // EAGAIN: a rename elsewhere made the kernel unsure that we stayed beneath.
    if (errno == EINTR || errno == EAGAIN) continue;
    if (errno == ELOOP || errno == EXDEV)
      return Error(Code::kPermissionDenied,
                   fmt::format("{} is or lies behind a symbolic link, which a repository folder "
                               "must not hold: replace the link by what it points to",
                               os::join_path(root_, path)));
    return failed(errno, "open", *this, path);
  }
}

Result<Fd> FolderTree::open_or_make_folder(const std::string& path) const {
  constexpr int kFlags = O_RDONLY | O_DIRECTORY;
  // A few rounds, because somebody may prune the folder between our mkdir and our open.
  for (int round = 0;; ++round) {
    Result<Fd> folder = open_beneath(path, kFlags);
    if (folder.ok() || folder.error().os_error() != ENOENT || path.empty() || round == 16)
      return folder;
    RECLO_ASSIGN_OR_RETURN(const Fd parent, open_or_make_folder(folder_of(path)));
    if (::mkdirat(parent.get(), os::base_name(path).c_str(), 0700) != 0) {
      if (errno == EEXIST || errno == ENOENT) continue;
      return failed(errno, "create folder", *this, path);
    }
    RECLO_TRY(fsync_folder(parent, os::join_path(root_, folder_of(path))));
  }
}

void FolderTree::prune_empty_folders(std::string folder) const {
  while (!folder.empty()) {
    const std::string parent_name = folder_of(folder);
    const Result<Fd> parent = open_beneath(parent_name, O_RDONLY | O_DIRECTORY);
    if (!parent.ok()) return;
    if (::unlinkat(parent->get(), os::base_name(folder).c_str(), AT_REMOVEDIR) != 0) return;
    folder = parent_name;
  }
}

Status fsync_folder(const Fd& folder, const std::string& name_for_messages) {
  if (::fsync(folder.get()) == 0 || errno == EINVAL) return {};
  return Error::from_errno(errno, "fsync folder " + name_for_messages);
}

std::string folder_of(const std::string& key) {
  const size_t slash = key.rfind('/');
  return slash == std::string::npos ? std::string() : key.substr(0, slash);
}

}  // namespace reclo::store
