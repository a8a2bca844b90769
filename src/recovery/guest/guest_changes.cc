#include "recovery/guest/guest_changes.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/encoding.h"
#include "base/json.h"
#include "crypto/hash.h"
#include "os/file.h"
#include "recovery/clone_marker.h"

namespace reclo::recovery {
namespace {

constexpr uint32_t kManifestVersion = 1;
constexpr size_t kChangesMax = 10000;
constexpr uint64_t kChangedFileSizeBytesMax = uint64_t{1} << 30;  // an initramfs is the largest
constexpr const char* kSelinuxLabel = "security.selinux";

std::string hash_of(ByteSpan content) { return to_hex(crypto::sha256(content)); }

struct KindName {
  ChangeKind kind;
  std::string_view name;
};
constexpr KindName kKinds[] = {{ChangeKind::kReplaced, "replaced"},
                               {ChangeKind::kAppended, "appended"},
                               {ChangeKind::kAdded, "added"},
                               {ChangeKind::kAside, "aside"},
                               {ChangeKind::kFolder, "folder"}};

bool is_plain_path(std::string_view path) {
  return path.starts_with('/') && path.find("/../") == std::string_view::npos &&
         !path.ends_with("/..") && path.find('\0') == std::string_view::npos && path.size() < 4096;
}

std::string aside_name(const std::string& path) {
  return os::join_path(os::parent_path(path), ".reclo-aside-" + os::base_name(path));
}

}  // namespace

std::string encode_changes(const std::vector<GuestChange>& changes) {
  Json list = Json::array();
  for (const GuestChange& change : changes) {
    std::string_view name;
    for (const KindName& known : kKinds)
      if (known.kind == change.kind) name = known.name;
    list.push_back({{"change", name},
                    {"path", change.path},
                    {"original", change.original},
                    {"size_before", change.size_before_bytes},
                    {"sha256_after", change.hash_after}});
  }
  return dump_json({{"version", kManifestVersion}, {"changes", std::move(list)}}, 1) + "\n";
}

Result<std::vector<GuestChange>> decode_changes(std::string_view text) {
  RECLO_ASSIGN_OR_RETURN(const Json json,
                         parse_json(text, "the guest's list of changes", kGuestTextSizeBytesMax));
  RECLO_ASSIGN_OR_RETURN(const uint32_t version, json_get<uint32_t>(json, "version"));
  if (version != kManifestVersion)
    return Error(Code::kUnsupported,
                 fmt::format("the guest's list of changes is of version {}, this program knows {}",
                             version, kManifestVersion));
  RECLO_ASSIGN_OR_RETURN(const Json* list, json_array(json, "changes"));
  if (list->size() > kChangesMax) return Error(Code::kCorruption, "too many changes in the list");
  std::vector<GuestChange> out;
  for (const Json& entry : *list) {
    GuestChange change;
    RECLO_ASSIGN_OR_RETURN(const std::string name, json_get<std::string>(entry, "change"));
    const auto* known = std::find_if(std::begin(kKinds), std::end(kKinds),
                                     [&](const KindName& kind) { return kind.name == name; });
    if (known == std::end(kKinds))
      return Error(Code::kCorruption, fmt::format("'{}' is no kind of change", name));
    change.kind = known->kind;
    RECLO_ASSIGN_OR_RETURN(change.path, json_get<std::string>(entry, "path"));
    RECLO_ASSIGN_OR_RETURN(change.original, json_get<std::string>(entry, "original"));
    RECLO_ASSIGN_OR_RETURN(change.size_before_bytes, json_get<uint64_t>(entry, "size_before"));
    RECLO_ASSIGN_OR_RETURN(change.hash_after, json_get<std::string>(entry, "sha256_after"));
    if (!is_plain_path(change.path) ||
        (!change.original.empty() && !is_plain_path(change.original)))
      return Error(Code::kCorruption, "a path in the list of changes is none");
    out.push_back(std::move(change));
  }
  return out;
}

Result<GuestChanges> GuestChanges::open(GuestFiles& files) {
  GuestChanges out(files);
  RECLO_ASSIGN_OR_RETURN(const auto text, read_text(files, kPreparedManifest));
  if (text) {
    RECLO_ASSIGN_OR_RETURN(out.changes_, decode_changes(*text));
  }
  return out;
}

GuestChange* GuestChanges::find(const std::string& path) {
  for (GuestChange& change : changes_)
    if (change.path == path && change.kind != ChangeKind::kFolder) return &change;
  return nullptr;
}

Status GuestChanges::make_folders(const std::string& path) {
  const std::string folder = os::parent_path(path);
  if (folder == "/") return {};
  RECLO_ASSIGN_OR_RETURN(const bool there, exists(*files_, folder));
  if (there) return {};
  RECLO_TRY(make_folders(folder));
  RECLO_TRY(files_->make_folder(folder, folder == kPreparedFolder ? 0700 : 0755));
  changes_.push_back({ChangeKind::kFolder, folder, "", 0, ""});
  return label(folder);
}

// What SELinux would call it: the label of its neighbour, or of its folder. A wrong label may keep
// a service from reading the file; relabelling everything would cost minutes at the first boot.
Status GuestChanges::label(const std::string& path) {
  const std::string folder = os::parent_path(path);
  RECLO_ASSIGN_OR_RETURN(const auto names, files_->list(folder));
  std::string model = folder;
  for (const std::string& name : names) {
    const std::string sibling = os::join_path(folder, name);
    if (sibling == path || name.starts_with(".reclo-aside-")) continue;
    RECLO_ASSIGN_OR_RETURN(const auto facts, files_->stat(sibling));
    if (!facts || facts->kind != GuestFileKind::kFile) continue;
    model = sibling;
    break;
  }
  RECLO_ASSIGN_OR_RETURN(const auto value, files_->attribute(model, kSelinuxLabel));
  if (!value) return {};
  return files_->set_attribute(path, kSelinuxLabel, *value);
}

Status GuestChanges::keep_original(GuestChange& change, ByteSpan content) {
  RECLO_TRY(make_folders(fmt::format("{}/originals/0", kPreparedFolder)));
  change.original = fmt::format("{}/originals/{}", kPreparedFolder, changes_.size());
  RECLO_TRY(files_->write(change.original, content));
  return files_->set_mode(change.original, 0600);
}

Status GuestChanges::replace(const std::string& path, ByteSpan content) {
  const auto before = files_->read(path, kChangedFileSizeBytesMax);
  if (!before.ok()) {
    if (before.error().code() != Code::kNotFound) return before.error();
    return add(path, as_text(content));
  }
  if (as_text(*before) == as_text(content)) return {};
  touched_.push_back(path);
  if (GuestChange* const known = find(path)) {
    known->hash_after = hash_of(content);
    return files_->write(path, content);
  }
  GuestChange change{ChangeKind::kReplaced, path, "", before->size(), hash_of(content)};
  RECLO_TRY(keep_original(change, *before));
  RECLO_TRY(files_->write(path, content));
  changes_.push_back(std::move(change));
  return {};
}

Status GuestChanges::add(const std::string& path, std::string_view text, uint32_t mode) {
  RECLO_ASSIGN_OR_RETURN(const bool there, exists(*files_, path));
  if (there) return replace(path, text);
  RECLO_TRY(make_folders(path));
  RECLO_TRY(files_->write(path, as_bytes(text)));
  RECLO_TRY(files_->set_mode(path, mode));
  RECLO_TRY(label(path));
  touched_.push_back(path);
  changes_.push_back({ChangeKind::kAdded, path, "", 0, hash_of(as_bytes(text))});
  return {};
}

Status GuestChanges::add_for_good(const std::string& path, ByteSpan content) {
  const size_t listed = changes_.size();
  RECLO_TRY(make_folders(path));
  changes_.resize(listed);
  RECLO_TRY(files_->write(path, content));
  RECLO_TRY(files_->set_mode(path, 0644));
  RECLO_TRY(label(path));
  touched_.push_back(path);
  return {};
}

Status GuestChanges::add_link(const std::string& path, const std::string& target) {
  RECLO_ASSIGN_OR_RETURN(const bool there, exists(*files_, path));
  if (there) return {};
  RECLO_TRY(make_folders(path));
  RECLO_TRY(files_->make_link(path, target));
  touched_.push_back(path);
  changes_.push_back({ChangeKind::kAdded, path, "", 0, ""});
  return {};
}

Status GuestChanges::append(const std::string& path, ByteSpan content) {
  RECLO_ASSIGN_OR_RETURN(Bytes whole, files_->read(path, kChangedFileSizeBytesMax));
  const uint64_t size_before = whole.size();
  const Status appended = files_->append(path, content);
  if (!appended.ok()) {
    // A full /boot: half an archive would be worse than none.
    RECLO_TRY(files_->truncate(path, size_before));
    return appended.error();
  }
  touched_.push_back(path);
  whole.insert(whole.end(), content.begin(), content.end());
  GuestChange* const known = find(path);
  if (known != nullptr) {
    known->hash_after = hash_of(whole);
  } else {
    changes_.push_back({ChangeKind::kAppended, path, "", size_before, hash_of(whole)});
  }
  return {};
}

Status GuestChanges::set_aside(const std::string& path) {
  // It may have been replaced before: then its name is given back first, its content after that.
  GuestChange change{ChangeKind::kAside, path, aside_name(path), 0, ""};
  RECLO_TRY(files_->rename(path, change.original));
  touched_.push_back(path);
  changes_.push_back(std::move(change));
  return {};
}

Status GuestChanges::finish() {
  if (changes_.empty()) return {};
  RECLO_TRY(make_folders(kPreparedManifest));
  RECLO_TRY(files_->write(kPreparedManifest, as_bytes(encode_changes(changes_))));
  return files_->set_mode(kPreparedManifest, 0600);
}

namespace {

// Whether it is still what we left there; "" or why not.
Result<std::string> difference(GuestFiles& files, const GuestChange& change) {
  const auto now = files.read(change.path, kChangedFileSizeBytesMax);
  if (!now.ok() && now.error().code() == Code::kNotFound) return std::string("it is gone");
  if (!now.ok()) return now.error();
  if (hash_of(*now) != change.hash_after) return std::string("it was changed since");
  return std::string();
}

// Takes one change back. Returns "" or why it was left.
Result<std::string> take_back(GuestFiles& files, const GuestChange& change) {
  if (change.kind == ChangeKind::kFolder) {
    RECLO_ASSIGN_OR_RETURN(const auto names, files.list(change.path));
    RECLO_ASSIGN_OR_RETURN(const bool there, exists(files, change.path));
    if (names.empty() && there) RECLO_TRY(files.remove(change.path));
    return std::string();
  }
  if (change.kind == ChangeKind::kAside) {
    RECLO_ASSIGN_OR_RETURN(const bool kept, exists(files, change.original));
    RECLO_ASSIGN_OR_RETURN(const bool taken, exists(files, change.path));
    if (!kept) return std::string(taken ? "" : "it is gone");
    if (taken) return std::string("another file has its name");
    RECLO_TRY(files.rename(change.original, change.path));
    return std::string();
  }
  if (change.kind == ChangeKind::kAdded && change.hash_after.empty()) {
    RECLO_ASSIGN_OR_RETURN(const auto facts, files.stat(change.path));
    if (facts && facts->kind == GuestFileKind::kLink) RECLO_TRY(files.remove(change.path));
    return std::string();
  }
  RECLO_ASSIGN_OR_RETURN(std::string why, difference(files, change));
  if (change.kind == ChangeKind::kReplaced) {
    const auto original = files.read(change.original, kChangedFileSizeBytesMax);
    if (!original.ok() && original.error().code() == Code::kNotFound)
      return std::string("its original is gone");
    if (!original.ok()) return original.error();
    const auto now = files.read(change.path, kChangedFileSizeBytesMax);
    // An interrupted run has taken it back already.
    if (now.ok() && *now == *original) return std::string();
    if (why.empty()) RECLO_TRY(files.write(change.path, *original));
    return why;
  }
  if (!why.empty()) return change.kind == ChangeKind::kAdded && why == "it is gone" ? "" : why;
  if (change.kind == ChangeKind::kAdded) RECLO_TRY(files.remove(change.path));
  if (change.kind == ChangeKind::kAppended)
    RECLO_TRY(files.truncate(change.path, change.size_before_bytes));
  return std::string();
}

}  // namespace

Result<UnprepareReport> take_back_changes(GuestFiles& files) {
  UnprepareReport report;
  // Nobody's change is in the list that the guest itself made: at home it would take itself for a
  // copy, and refuse its own backups.
  RECLO_ASSIGN_OR_RETURN(const bool is_marked, exists(files, kUserDataMarkerPath));
  if (is_marked) {
    RECLO_TRY(files.remove(kUserDataMarkerPath));
    report.restored.push_back(kUserDataMarkerPath);
  }
  RECLO_ASSIGN_OR_RETURN(const auto text, read_text(files, kPreparedManifest));
  if (!text) return report;
  RECLO_ASSIGN_OR_RETURN(const auto changes, decode_changes(*text));
  // Folders last: what is in them, the list among it, has to be gone before.
  for (auto change = changes.rbegin(); change != changes.rend(); ++change) {
    if (change->kind == ChangeKind::kFolder) continue;
    RECLO_ASSIGN_OR_RETURN_WITH(const std::string why, take_back(files, *change), change->path);
    if (why.empty())
      report.restored.push_back(change->path);
    else
      report.left.push_back(fmt::format("{}: {}", change->path, why));
  }
  for (const GuestChange& change : changes)
    if (change.kind == ChangeKind::kReplaced) {
      RECLO_ASSIGN_OR_RETURN(const bool there, exists(files, change.original));
      if (there) RECLO_TRY(files.remove(change.original));
    }
  RECLO_TRY(files.remove(kPreparedManifest));
  for (auto change = changes.rbegin(); change != changes.rend(); ++change)
    if (change->kind == ChangeKind::kFolder) {
      RECLO_ASSIGN_OR_RETURN(const std::string why, take_back(files, *change));
      if (!why.empty()) report.left.push_back(change->path + ": " + why);
    }
  return report;
}

}  // namespace reclo::recovery
