#include "recovery/ec2/failover_store.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/encoding.h"
#include "os/random.h"

namespace reclo::recovery {
namespace {

constexpr const char* kRecordFile = "ec2.json";
constexpr size_t kIdSizeBytes = 6;
constexpr auto kPlanLockMax = std::chrono::seconds(30);

bool is_instance_id(std::string_view text) {
  return text.size() == 2 * kIdSizeBytes &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace

Ec2InstanceStore::Ec2InstanceStore(std::string state_directory)
    : state_directory_(std::move(state_directory)),
      root_(os::join_path(state_directory_, "instances")) {}

std::string Ec2InstanceStore::folder(const std::string& id) const {
  return os::join_path(root_, id);
}

Status Ec2InstanceStore::create(Ec2Instance& record) const {
  Bytes random(kIdSizeBytes);
  os::fill_random(random);
  record.id = to_hex(random);
  RECLO_TRY(os::make_directories(folder(record.id)));
  return save(record);
}

Result<Ec2Instance> Ec2InstanceStore::load(const std::string& id) const {
  const std::string path = os::join_path(folder(id), kRecordFile);
  if (!is_instance_id(id) || !os::path_exists(path))
    return Error(Code::kNotFound, fmt::format("there is no instance '{}' in EC2", id));
  RECLO_ASSIGN_OR_RETURN(const Bytes content, os::read_file(path, kEc2InstanceSizeBytesMax));
  RECLO_ASSIGN_OR_RETURN_WITH(Ec2Instance record, decode_ec2_instance(as_text(content)), path);
  if (record.id != id)
    return Error(Code::kCorruption, fmt::format("{} is about instance {}", path, record.id));
  return record;
}

Status Ec2InstanceStore::save(const Ec2Instance& record) const {
  return os::write_file_durably(os::join_path(folder(record.id), kRecordFile),
                                as_bytes(encode_ec2_instance(record)));
}

Result<std::vector<Ec2Instance>> Ec2InstanceStore::list() const {
  std::vector<Ec2Instance> out;
  if (!os::is_directory(root_)) return out;
  RECLO_ASSIGN_OR_RETURN(const auto names, os::list_directory(root_));
  for (const std::string& name : names) {
    if (!is_instance_id(name)) continue;
    auto record = load(name);
    if (!record.ok() && record.error().code() == Code::kNotFound) continue;
    RECLO_TRY(record);
    out.push_back(std::move(record).value());
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) {
    return std::tie(a.created_at, a.id) < std::tie(b.created_at, b.id);
  });
  return out;
}

Result<std::optional<std::string>> Ec2InstanceStore::find(const std::string& reference) const {
  RECLO_ASSIGN_OR_RETURN(const auto all, list());
  std::optional<std::string> found;
  for (const Ec2Instance& record : all) {
    if (record.id == reference || (!record.name.empty() && record.name == reference))
      return std::optional(record.id);
    if (reference.empty() || !record.id.starts_with(reference)) continue;
    if (found)
      return Error(Code::kInvalidArgument,
                   fmt::format("'{}' means both {} and {}", reference, *found, record.id));
    found = record.id;
  }
  return found;
}

Status Ec2InstanceStore::remove(const Ec2Instance& record) const {
  RECLO_ASSIGN_OR_RETURN(const auto names, os::list_directory(folder(record.id)));
  for (const std::string& name : names)
    if (name != kRecordFile) RECLO_TRY(os::remove_tree(os::join_path(folder(record.id), name)));
  return os::remove_tree(folder(record.id));
}

Result<os::FileLock> Ec2InstanceStore::lock(const std::string& id) const {
  auto lock = os::FileLock::acquire(os::join_path(folder(id), "lock"));
  if (lock.ok() || lock.error().code() != Code::kConflict) return lock;
  return Error(Code::kConflict,
               fmt::format("another command works on instance {}; try again when it is done", id));
}

Result<os::FileLock> Ec2InstanceStore::plan_lock(const CancelToken& cancel) const {
  RECLO_TRY(os::make_directories(root_));
  const CancelToken deadline = cancel.with_timeout(kPlanLockMax);
  for (;;) {
    auto lock = os::FileLock::acquire(os::join_path(root_, "ec2.lock"));
    if (lock.ok() || lock.error().code() != Code::kConflict) return lock;
    RECLO_TRY_WITH(deadline.sleep_for(std::chrono::milliseconds(20)),
                   "another failover to EC2 is being planned");
  }
}

}  // namespace reclo::recovery
