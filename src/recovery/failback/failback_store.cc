#include "recovery/failback/failback_store.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/encoding.h"
#include "os/random.h"

namespace reclo::recovery {
namespace {

constexpr const char* kRecordFile = "failback.json";
constexpr size_t kIdSizeBytes = 6;

bool is_failback_id(std::string_view text) {
  return text.size() == 2 * kIdSizeBytes &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

bool is_under_way(const FailbackRecord& record) {
  return record.state != FailbackState::kDone && record.state != FailbackState::kAbandoned;
}

}  // namespace

std::string FailbackStore::path(const std::string& id, std::string_view name) const {
  return os::join_path(os::join_path(root(), id), name);
}

Status FailbackStore::create(FailbackRecord& record) const {
  Bytes random(kIdSizeBytes);
  os::fill_random(random);
  record.id = to_hex(random);
  RECLO_TRY(os::make_directories(os::join_path(root(), record.id)));
  return save(record);
}

Status FailbackStore::save(const FailbackRecord& record) const {
  return os::write_file_durably(path(record.id, kRecordFile), as_bytes(encode_failback(record)));
}

Result<FailbackRecord> FailbackStore::load(const std::string& id) const {
  const std::string file = path(id, kRecordFile);
  if (!is_failback_id(id) || !os::path_exists(file))
    return Error(Code::kNotFound, fmt::format("there is no failback '{}'", id));
  RECLO_ASSIGN_OR_RETURN(const Bytes text, os::read_file(file, kFailbackSizeBytesMax));
  RECLO_ASSIGN_OR_RETURN_WITH(FailbackRecord record, decode_failback(as_text(text)), file);
  if (record.id != id)
    return Error(Code::kCorruption, fmt::format("{} is about failback {}", file, record.id));
  return record;
}

Result<std::vector<FailbackRecord>> FailbackStore::list() const {
  std::vector<FailbackRecord> out;
  if (!os::is_directory(root())) return out;
  RECLO_ASSIGN_OR_RETURN(const auto names, os::list_directory(root()));
  for (const std::string& name : names) {
    // A folder without a record is one whose making was interrupted.
    if (!is_failback_id(name) || !os::path_exists(path(name, kRecordFile))) continue;
    RECLO_ASSIGN_OR_RETURN(FailbackRecord record, load(name));
    out.push_back(std::move(record));
  }
  std::sort(out.begin(), out.end(), [](const FailbackRecord& a, const FailbackRecord& b) {
    return std::tie(a.started_at, a.id) < std::tie(b.started_at, b.id);
  });
  return out;
}

Result<std::optional<FailbackRecord>> FailbackStore::of_instance(
    const std::string& instance) const {
  RECLO_ASSIGN_OR_RETURN(auto all, list());
  for (FailbackRecord& record : all)
    if (record.instance == instance && is_under_way(record))
      return std::optional<FailbackRecord>(std::move(record));
  return std::optional<FailbackRecord>();
}

Result<FailbackRecord> FailbackStore::find(const std::string& reference) const {
  RECLO_ASSIGN_OR_RETURN(auto all, list());
  std::vector<FailbackRecord> fits;
  for (FailbackRecord& record : all) {
    if (record.id == reference) return std::move(record);
    const bool meant = reference.empty()
                           ? is_under_way(record)
                           : record.id.starts_with(reference) ||
                                 (record.instance == reference && is_under_way(record));
    if (meant) fits.push_back(std::move(record));
  }
  if (fits.size() == 1) return std::move(fits.front());
  if (fits.empty())
    return Error(
        Code::kNotFound,
        reference.empty()
            ? "no failback is under way: begin with `reclo failback seed`"
            : fmt::format("there is no failback '{}'; see `reclo failback status`", reference));
  std::string names;
  for (const FailbackRecord& record : fits)
    names += fmt::format("{}{} of {}", names.empty() ? "" : ", ", record.id, record.server);
  return Error(Code::kInvalidArgument, fmt::format("which failback? There are {}", names));
}

Result<os::FileLock> FailbackStore::lock(const std::string& id) const {
  auto lock = os::FileLock::acquire(path(id, "lock"));
  if (!lock.ok() && lock.error().code() == Code::kConflict)
    return Error(Code::kConflict, fmt::format("another command works on failback {}", id));
  return lock;
}

}  // namespace reclo::recovery
