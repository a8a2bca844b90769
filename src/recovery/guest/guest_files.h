// The files of a server that is being prepared, as its own root sees them.
//
// Paths are absolute in the guest ("/etc/fstab"). Links are followed inside the guest's root only,
// whatever they say. What is read was written by others: every read says how much it takes at most.
// Thread rule: one thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace reclo::recovery {

enum class GuestFileKind { kFile, kFolder, kLink, kOther };

struct GuestFileFacts {
  GuestFileKind kind = GuestFileKind::kFile;
  uint64_t size_bytes = 0;
  uint32_t mode = 0644;  // permission bits
};

class GuestFiles {
 public:
  virtual ~GuestFiles() = default;

  /// Of the name itself: a link is a link. Nothing when it is not there.
  virtual Result<std::optional<GuestFileFacts>> stat(const std::string& path) = 0;
  /// Follows links. Errors: kNotFound, kResourceExhausted when it is larger than `size_bytes_max`.
  virtual Result<Bytes> read(const std::string& path, uint64_t size_bytes_max) = 0;
  /// Names without "." and "..", sorted; empty when there is no such folder.
  virtual Result<std::vector<std::string>> list(const std::string& folder) = 0;
  /// Makes the file, or replaces its content and leaves owner, mode and attributes as they are.
  virtual Status write(const std::string& path, ByteSpan content) = 0;
  virtual Status append(const std::string& path, ByteSpan content) = 0;
  virtual Status truncate(const std::string& path, uint64_t size_bytes) = 0;
  virtual Status set_mode(const std::string& path, uint32_t mode) = 0;
  /// One folder; its parent must be there.
  virtual Status make_folder(const std::string& path, uint32_t mode) = 0;
  /// A symbolic link that says `target`.
  virtual Status make_link(const std::string& path, const std::string& target) = 0;
  /// A file, a link or an empty folder.
  virtual Status remove(const std::string& path) = 0;
  virtual Status rename(const std::string& from, const std::string& to) = 0;
  /// An extended attribute; nothing when there is none, or the file system knows none.
  virtual Result<std::optional<Bytes>> attribute(const std::string& path,
                                                 const std::string& name) = 0;
  virtual Status set_attribute(const std::string& path, const std::string& name,
                               ByteSpan value) = 0;
};

/// Text files of a guest are read up to this size.
inline constexpr uint64_t kGuestTextSizeBytesMax = uint64_t{2} << 20;

/// The file's text, or nothing when it is not there. Errors: kResourceExhausted and others.
Result<std::optional<std::string>> read_text(GuestFiles& files, const std::string& path);
/// Whether something is there, also a link to nowhere.
Result<bool> exists(GuestFiles& files, const std::string& path);

}  // namespace reclo::recovery
