// A guest's files in memory: for the fixes' unit tests. Links are followed as the last name only.
#pragma once

#include <map>

#include "recovery/guest/guest_files.h"

namespace reclo::recovery::testing {

struct MemoryFile {
  GuestFileKind kind = GuestFileKind::kFile;
  Bytes content;  // of a link: where it points
  uint32_t mode = 0644;
  std::map<std::string, Bytes> attributes;
  bool operator==(const MemoryFile&) const = default;
};

class MemoryFiles final : public GuestFiles {
 public:
  /// Makes the folders above it too.
  void put(const std::string& path, std::string_view text) {
    make_parents(path);
    all_[path].content = to_bytes(text);
  }
  void put_folder(const std::string& path) { make_parents(path + "/x"); }
  std::string text(const std::string& path) {
    const auto found = read(path, kGuestTextSizeBytesMax);
    return found.ok() ? std::string(as_text(*found)) : "(" + found.error().message() + ")";
  }
  std::map<std::string, MemoryFile>& all() { return all_; }

  Result<std::optional<GuestFileFacts>> stat(const std::string& path) override {
    const auto found = all_.find(path);
    if (found == all_.end()) return std::optional<GuestFileFacts>();
    return std::optional<GuestFileFacts>(
        {found->second.kind, found->second.content.size(), found->second.mode});
  }
  Result<Bytes> read(const std::string& path, uint64_t size_bytes_max) override {
    RECLO_ASSIGN_OR_RETURN(MemoryFile* const file, find(path));
    if (file->content.size() > size_bytes_max)
      return Error(Code::kResourceExhausted, path + " is too large");
    return file->content;
  }
  Result<std::vector<std::string>> list(const std::string& folder) override {
    const std::string prefix = folder == "/" ? "/" : folder + "/";
    std::vector<std::string> names;
    for (const auto& [path, file] : all_)
      if (path.starts_with(prefix) && path.size() > prefix.size() &&
          path.find('/', prefix.size()) == std::string::npos)
        names.push_back(path.substr(prefix.size()));
    return names;
  }
  Status write(const std::string& path, ByteSpan content) override {
    if (!all_.contains(parent(path))) return Error(Code::kNotFound, path + ": no such folder");
    all_[target(path)].content = to_bytes(content);
    return {};
  }
  Status append(const std::string& path, ByteSpan content) override {
    RECLO_ASSIGN_OR_RETURN(MemoryFile* const file, find(path));
    file->content.insert(file->content.end(), content.begin(), content.end());
    return {};
  }
  Status truncate(const std::string& path, uint64_t size_bytes) override {
    RECLO_ASSIGN_OR_RETURN(MemoryFile* const file, find(path));
    file->content.resize(size_bytes);
    return {};
  }
  Status set_mode(const std::string& path, uint32_t mode) override {
    RECLO_ASSIGN_OR_RETURN(MemoryFile* const file, find(path));
    file->mode = mode;
    return {};
  }
  Status make_folder(const std::string& path, uint32_t mode) override {
    if (!all_.contains(parent(path))) return Error(Code::kNotFound, path + ": no such folder");
    all_[path] = {GuestFileKind::kFolder, {}, mode, {}};
    return {};
  }
  Status make_link(const std::string& path, const std::string& to) override {
    all_[path] = {GuestFileKind::kLink, to_bytes(to), 0777, {}};
    return {};
  }
  Status remove(const std::string& path) override {
    all_.erase(path);
    return {};
  }
  Status rename(const std::string& from, const std::string& to) override {
    const auto found = all_.find(from);
    if (found == all_.end()) return Error(Code::kNotFound, from + " is not there");
    MemoryFile file = std::move(found->second);
    all_.erase(found);
    all_[to] = std::move(file);
    return {};
  }
  Result<std::optional<Bytes>> attribute(const std::string& path,
                                         const std::string& name) override {
    RECLO_ASSIGN_OR_RETURN(MemoryFile* const file, find(path));
    const auto found = file->attributes.find(name);
    if (found == file->attributes.end()) return std::optional<Bytes>();
    return std::optional<Bytes>(found->second);
  }
  Status set_attribute(const std::string& path, const std::string& name, ByteSpan value) override {
    RECLO_ASSIGN_OR_RETURN(MemoryFile* const file, find(path));
    file->attributes[name] = to_bytes(value);
    return {};
  }

 private:
  static std::string parent(const std::string& path) {
    const size_t slash = path.rfind('/');
    return slash == 0 ? "/" : path.substr(0, slash);
  }
  void make_parents(const std::string& path) {
    for (size_t at = path.find('/'); at != std::string::npos; at = path.find('/', at + 1))
      all_.try_emplace(at == 0 ? "/" : path.substr(0, at),
                       MemoryFile{GuestFileKind::kFolder, {}, 0755, {}});
  }
  std::string target(const std::string& path) {
    const auto found = all_.find(path);
    if (found == all_.end() || found->second.kind != GuestFileKind::kLink) return path;
    const std::string to(as_text(found->second.content));
    return to.starts_with("/") ? to : parent(path) + "/" + to;
  }
  Result<MemoryFile*> find(const std::string& path) {
    const auto found = all_.find(target(path));
    if (found == all_.end()) return Error(Code::kNotFound, path + " is not there");
    return &found->second;
  }

  std::map<std::string, MemoryFile> all_;
};

}  // namespace reclo::recovery::testing
