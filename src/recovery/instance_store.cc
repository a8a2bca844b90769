#include "recovery/instance_store.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "base/encoding.h"
#include "os/random.h"
#include "recovery/unix_socket.h"

namespace reclo::recovery {
namespace {

constexpr size_t kIdSizeBytes = 6;
constexpr std::string_view kLongestSocketName = "/nbd-63.sock";

bool is_instance_id(std::string_view text) {
  return text.size() == 2 * kIdSizeBytes &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// A folder that nobody else can have prepared: ours, and closed to others.
Status make_private_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
    return Error::from_errno(errno, "make " + path);
  struct stat info{};
  if (::lstat(path.c_str(), &info) != 0) return Error::from_errno(errno, path);
  if (!S_ISDIR(info.st_mode) || info.st_uid != ::geteuid() || (info.st_mode & 077) != 0)
    return Error(Code::kPermissionDenied,
                 fmt::format("{} is not a folder that only this user can use; remove it", path));
  return {};
}

std::string short_run_root() {
  if (::geteuid() == 0 && ::access("/run", W_OK) == 0) return "/run/reclo";
  return fmt::format("/tmp/reclo-{}", ::geteuid());
}

std::string absolute(const std::string& path) {
  std::error_code failure;
  const auto full = std::filesystem::absolute(path, failure);
  return failure ? path : full.lexically_normal().string();
}

}  // namespace

std::string InstancePaths::overlay(uint32_t disk_index) const {
  return in_folder(fmt::format("overlay-{}.qcow2", disk_index));
}
std::string InstancePaths::cache(uint32_t disk_index) const {
  return in_folder(fmt::format("cache-{}", disk_index));
}
std::string InstancePaths::nbd_socket(uint32_t disk_index) const {
  return os::join_path(run_dir, fmt::format("nbd-{}.sock", disk_index));
}
std::string InstancePaths::nbd_log(uint32_t disk_index) const {
  return in_folder(fmt::format("nbd-{}.log", disk_index));
}

std::string InstanceStore::folder(const std::string& id) const {
  // Absolute: the processes of an instance have working folders of their own.
  return os::join_path(absolute(os::join_path(state_dir_, "instances")), id);
}

InstancePaths InstanceStore::paths(const InstanceRecord& record) const {
  return {folder(record.id), record.run_dir};
}

Status InstanceStore::create(InstanceRecord& record) const {
  if (!record.name.empty()) {
    RECLO_ASSIGN_OR_RETURN(const auto others, list());
    for (const InstanceRecord& other : others)
      if (other.name == record.name)
        return Error(Code::kConflict,
                     fmt::format("instance {} has the name '{}' already; stop it with --delete or "
                                 "choose another name",
                                 other.id, record.name));
  }
  Bytes random(kIdSizeBytes);
  os::fill_random(random);
  record.id = to_hex(random);
  const std::string path = folder(record.id);
  const bool fits = path.size() + kLongestSocketName.size() <= kSocketPathSizeMax;
  record.run_dir = fits ? path : os::join_path(short_run_root(), record.id);
  RECLO_TRY(os::make_directories(path));
  RECLO_TRY(ensure_run_dir(record));
  return save(record);
}

Status InstanceStore::ensure_run_dir(const InstanceRecord& record) const {
  if (record.run_dir == folder(record.id)) return {};
  RECLO_TRY(make_private_directory(os::parent_path(record.run_dir)));
  return make_private_directory(record.run_dir);
}

Result<InstanceRecord> InstanceStore::load(const std::string& id) const {
  const std::string path = os::join_path(folder(id), "instance.json");
  if (!is_instance_id(id) || !os::path_exists(path))
    return Error(Code::kNotFound, fmt::format("there is no instance '{}'", id));
  RECLO_ASSIGN_OR_RETURN(const Bytes content, os::read_file(path, kInstanceSizeBytesMax));
  RECLO_ASSIGN_OR_RETURN_WITH(InstanceRecord record, decode_instance(as_text(content)), path);
  if (record.id != id)
    return Error(Code::kCorruption, fmt::format("{} is about instance {}", path, record.id));
  return record;
}

Status InstanceStore::save(const InstanceRecord& record) const {
  return os::write_file_durably(os::join_path(folder(record.id), "instance.json"),
                                as_bytes(encode_instance(record)));
}

Result<std::string> InstanceStore::find(const std::string& reference) const {
  RECLO_ASSIGN_OR_RETURN(const auto all, list());
  std::string found;
  for (const InstanceRecord& record : all) {
    if (record.id == reference || (!record.name.empty() && record.name == reference))
      return record.id;
    if (reference.empty() || !record.id.starts_with(reference)) continue;
    if (!found.empty())
      return Error(Code::kInvalidArgument,
                   fmt::format("'{}' means both {} and {}", reference, found, record.id));
    found = record.id;
  }
  if (found.empty())
    return Error(Code::kNotFound,
                 fmt::format("there is no instance '{}'; see `reclo instances`", reference));
  return found;
}

Result<std::vector<InstanceRecord>> InstanceStore::list() const {
  std::vector<InstanceRecord> out;
  const std::string root = os::join_path(state_dir_, "instances");
  if (!os::is_directory(root)) return out;
  RECLO_ASSIGN_OR_RETURN(const auto names, os::list_directory(root));
  for (const std::string& name : names) {
    if (!is_instance_id(name)) continue;
    auto record = load(name);
    // Being made, or being removed, at this very moment.
    if (!record.ok() && record.error().code() == Code::kNotFound) continue;
    RECLO_TRY(record);
    out.push_back(std::move(record).value());
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) {
    return std::tie(a.created_at, a.id) < std::tie(b.created_at, b.id);
  });
  return out;
}

Status InstanceStore::remove(const InstanceRecord& record) const {
  if (record.run_dir != folder(record.id)) RECLO_TRY(os::remove_tree(record.run_dir));
  // The record goes last: whoever is interrupted here can still see the instance and try again.
  RECLO_ASSIGN_OR_RETURN(const auto names, os::list_directory(folder(record.id)));
  for (const std::string& name : names)
    if (name != "instance.json") RECLO_TRY(os::remove_tree(os::join_path(folder(record.id), name)));
  return os::remove_tree(folder(record.id));
}

Result<os::FileLock> InstanceStore::lock(const std::string& id, std::chrono::milliseconds timeout,
                                         const CancelToken& cancel) const {
  if (!os::is_directory(folder(id)))
    return Error(Code::kNotFound, fmt::format("there is no instance '{}'", id));
  const CancelToken deadline = CancelToken().with_timeout(timeout);
  for (;;) {
    auto lock = os::FileLock::acquire(os::join_path(folder(id), "lock"));
    if (lock.ok() || lock.error().code() != Code::kConflict) return lock;
    if (deadline.fired())
      return Error(
          Code::kConflict,
          fmt::format("another command works on instance {}; try again when it is done", id));
    RECLO_TRY(cancel.sleep_for(std::chrono::milliseconds(20)));
  }
}

}  // namespace reclo::recovery
