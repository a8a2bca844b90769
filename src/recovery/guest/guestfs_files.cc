#include "recovery/guest/guestfs_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "base/units.h"

namespace reclo::recovery {
namespace {

// libguestfs's messages end at 4 MiB.
constexpr uint64_t kMessageSizeBytes = 2 * kMiB;
constexpr size_t kNamesMax = 20'000;
constexpr uint32_t kTypeMask = 0170000;

std::string os_release_value(std::string_view value) {
  std::string out;
  for (const char c : value)
    if (c != '"' && c != '\'' && c >= ' ') out += c;
  return out.substr(0, 200);
}

}  // namespace

Error guestfs_error(const GuestfsLibrary& library, guestfs_h* handle, const std::string& what) {
  const char* const words = library.last_error(handle);
  const int code = library.last_errno(handle);
  const std::string text =
      fmt::format("{}: {}", what, words != nullptr ? words : "libguestfs gave no reason");
  if (code == ENOENT || code == ENOTDIR) return Error(Code::kNotFound, text);
  if (code == ENOSPC) return Error(Code::kNoSpace, text);
  return Error(Code::kIo, text);
}

void read_os_release(std::string_view text, GuestFacts& facts) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const size_t equals = line.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view key = line.substr(0, equals);
    const std::string value = os_release_value(line.substr(equals + 1));
    if (key == "PRETTY_NAME") facts.system = value;
    if (key == "ID") facts.system_id = value;
    if (key != "ID_LIKE") continue;
    for (size_t at = 0; at < value.size();) {
      const size_t space = std::min(value.find(' ', at), value.size());
      if (space > at) facts.like.push_back(value.substr(at, space - at));
      at = space + 1;
    }
  }
  if (facts.system.empty()) facts.system = facts.system_id;
}

Status GuestfsFiles::call(int answer, std::string_view verb, const std::string& path) {
  if (answer >= 0) return {};
  return guestfs_error(library_, handle_, fmt::format("{} {}", verb, path));
}

Result<std::optional<GuestFileFacts>> GuestfsFiles::stat(const std::string& path) {
  struct guestfs_statns* const found = library_.lstatns(handle_, path.c_str());
  if (found == nullptr) {
    Error error = guestfs_error(library_, handle_, "look at " + path);
    if (error.code() == Code::kNotFound) return std::optional<GuestFileFacts>();
    return error;
  }
  GuestFileFacts facts;
  const auto mode = static_cast<uint32_t>(found->st_mode);
  facts.size_bytes = found->st_size < 0 ? 0 : static_cast<uint64_t>(found->st_size);
  library_.free_statns(found);
  facts.mode = mode & 07777;
  switch (mode & kTypeMask) {
    case 0100000:
      facts.kind = GuestFileKind::kFile;
      break;
    case 0040000:
      facts.kind = GuestFileKind::kFolder;
      break;
    case 0120000:
      facts.kind = GuestFileKind::kLink;
      break;
    default:
      facts.kind = GuestFileKind::kOther;
  }
  return std::optional<GuestFileFacts>(facts);
}

Result<Bytes> GuestfsFiles::read(const std::string& path, uint64_t size_bytes_max) {
  // What is no file (a pipe, a device) would be waited for, or never end.
  struct guestfs_statns* const found = library_.statns(handle_, path.c_str());
  if (found == nullptr) return guestfs_error(library_, handle_, "read " + path);
  const bool is_file = (static_cast<uint32_t>(found->st_mode) & kTypeMask) == 0100000;
  const auto size = static_cast<uint64_t>(std::max<int64_t>(found->st_size, 0));
  library_.free_statns(found);
  if (!is_file) return Error(Code::kNotFound, path + " is no file");
  if (size > size_bytes_max)
    return Error(Code::kResourceExhausted,
                 fmt::format("{} has {}, more than can be looked at", path, format_bytes(size)));
  Bytes out;
  out.reserve(size);
  while (out.size() < size) {
    size_t got = 0;
    char* const piece = library_.pread(
        handle_, path.c_str(), static_cast<int>(std::min(kMessageSizeBytes, size - out.size())),
        static_cast<int64_t>(out.size()), &got);
    if (piece == nullptr) return guestfs_error(library_, handle_, "read " + path);
    out.insert(out.end(), piece, piece + got);
    ::free(piece);
    if (got == 0) return Error(Code::kIo, path + " ends too early");
  }
  return out;
}

Result<std::vector<std::string>> GuestfsFiles::list(const std::string& folder) {
  std::vector<std::string> out;
  char** const names = library_.ls(handle_, folder.c_str());
  if (names == nullptr) {
    Error error = guestfs_error(library_, handle_, "list " + folder);
    if (error.code() == Code::kNotFound) return out;
    return error;
  }
  for (char** name = names; *name != nullptr; ++name) {
    if (out.size() < kNamesMax) out.emplace_back(*name);
    ::free(*name);
  }
  ::free(names);
  return out;
}

Status GuestfsFiles::write(const std::string& path, ByteSpan content) {
  const ByteSpan first = content.first(std::min<size_t>(content.size(), kMessageSizeBytes));
  RECLO_TRY(call(library_.write(handle_, path.c_str(), reinterpret_cast<const char*>(first.data()),
                                first.size()),
                 "write", path));
  return append(path, content.subspan(first.size()));
}

Status GuestfsFiles::append(const std::string& path, ByteSpan content) {
  while (!content.empty()) {
    const ByteSpan piece = content.first(std::min<size_t>(content.size(), kMessageSizeBytes));
    RECLO_TRY(call(library_.write_append(handle_, path.c_str(),
                                         reinterpret_cast<const char*>(piece.data()), piece.size()),
                   "append to", path));
    content = content.subspan(piece.size());
  }
  return {};
}

Status GuestfsFiles::truncate(const std::string& path, uint64_t size_bytes) {
  return call(library_.truncate_size(handle_, path.c_str(), static_cast<int64_t>(size_bytes)),
              "cut", path);
}

Status GuestfsFiles::set_mode(const std::string& path, uint32_t mode) {
  return call(library_.chmod(handle_, static_cast<int>(mode), path.c_str()), "set the mode of",
              path);
}

Status GuestfsFiles::make_folder(const std::string& path, uint32_t mode) {
  return call(library_.mkdir_mode(handle_, path.c_str(), static_cast<int>(mode)), "make", path);
}

Status GuestfsFiles::make_link(const std::string& path, const std::string& target) {
  return call(library_.ln_s(handle_, target.c_str(), path.c_str()), "make", path);
}

Status GuestfsFiles::remove(const std::string& path) {
  RECLO_ASSIGN_OR_RETURN(const auto facts, stat(path));
  if (!facts) return {};
  return call(facts->kind == GuestFileKind::kFolder ? library_.rmdir(handle_, path.c_str())
                                                    : library_.rm(handle_, path.c_str()),
              "remove", path);
}

Status GuestfsFiles::rename(const std::string& from, const std::string& to) {
  return call(library_.mv(handle_, from.c_str(), to.c_str()), "rename", from);
}

Result<std::optional<Bytes>> GuestfsFiles::attribute(const std::string& path,
                                                     const std::string& name) {
  size_t size = 0;
  char* const value = library_.lgetxattr(handle_, path.c_str(), name.c_str(), &size);
  if (value == nullptr) {
    const int code = library_.last_errno(handle_);
    if (code == ENODATA || code == ENOTSUP || code == ENOENT) return std::optional<Bytes>();
    return guestfs_error(library_, handle_, "read an attribute of " + path);
  }
  Bytes out(value, value + size);
  ::free(value);
  return std::optional<Bytes>(std::move(out));
}

Status GuestfsFiles::set_attribute(const std::string& path, const std::string& name,
                                   ByteSpan value) {
  return call(library_.lsetxattr(handle_, name.c_str(), reinterpret_cast<const char*>(value.data()),
                                 static_cast<int>(value.size()), path.c_str()),
              "set an attribute of", path);
}

}  // namespace reclo::recovery
