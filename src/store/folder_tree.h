// File operations below one folder that cannot be led out of it.
//
// Every path is resolved by openat2(2) beneath the root's descriptor and follows no symbolic link:
// whoever may write in the folder cannot make us read or write elsewhere. Thread rule: safe from
// any number of threads.
#pragma once

#include <string>

#include "base/result.h"
#include "os/fd.h"

namespace reclo::store {

class FolderTree {
 public:
  /// Opens `root`; itself it may be reached through links. Errors: kNotFound, kInvalidArgument when
  /// it is no folder.
  static Result<FolderTree> open(const std::string& root);

  /// Opens a path below the root ("" is the root). Errors: kNotFound, kPermissionDenied when a
  /// symbolic link is on the way.
  Result<os::Fd> open_beneath(const std::string& path, int flags) const;
  /// Opens the folder, and makes it and its parents durably when they are missing.
  Result<os::Fd> open_or_make_folder(const std::string& path) const;
  /// Removes `folder` and then its parents as long as they are empty; never the root. Losing the
  /// race against somebody who fills one is fine.
  void prune_empty_folders(std::string folder) const;

  const std::string& root() const { return root_; }

 private:
  FolderTree(std::string root, os::Fd fd) : root_(std::move(root)), fd_(std::move(fd)) {}
  std::string root_;
  os::Fd fd_;
};

/// fsync of a folder's entries; a file system that has no such operation (SMB) passes.
Status fsync_folder(const os::Fd& folder, const std::string& name_for_messages);
/// "a/b/c" → "a/b"; "c" → "".
std::string folder_of(const std::string& key);

}  // namespace reclo::store
