#include "repo/repository.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/limits.h"
#include "crypto/hash.h"
#include "crypto/passphrase.h"
#include "os/random.h"
#include "repo/layout.h"

namespace reclo::repo {
namespace {

struct SessionKeys {
  bool begun = false;
  bool ended = false;
};

Result<Point> load_point(const Repository& repository, const MachineRecord& machine,
                         const SessionId& session, const CancelToken& cancel) {
  const std::string key = layout::session_end(machine.id, session);
  RECLO_ASSIGN_OR_RETURN(const Bytes object,
                         repository.store().get(key, kRecordSizeBytesMax, cancel));
  RECLO_ASSIGN_OR_RETURN(auto record,
                         decode_end(object, repository.id(), machine.signing_key, key));
  if (!record)
    return Error(Code::kNotFound,
                 key + " is no recovery point: its session was fenced or only read");
  if (record->id != session || record->machine != machine.id)
    return Error(Code::kCorruption,
                 key + " is the record of another session: objects were swapped");
  return Point{std::move(*record), to_hex(crypto::sha256(object))};
}

bool newer(const Point& a, const Point& b) { return a.record.taken > b.record.taken; }

}  // namespace

// The chain says which point follows which: gaps and forks are worth a warning, since a point that
// vanished by retention has a tombstone, and one that a provider dropped has none.
std::vector<ChainBreak> check_chain(const std::vector<Point>& points) {
  std::vector<ChainBreak> breaks;
  const auto note = [&](const Point& at, std::string what) {
    breaks.push_back({at.record.id, std::move(what)});
  };
  if (!points.empty() && points.front().record.sequence > 1)
    note(points.front(),
         fmt::format("recovery points 1 to {} are missing", points.front().record.sequence - 1));
  for (size_t i = 1; i < points.size(); ++i) {
    const Point& before = points[i - 1];
    const Point& after = points[i];
    if (after.record.sequence == before.record.sequence) {
      note(after, fmt::format("two recovery points {} and {} have the number {}",
                              before.record.id.short_hex(), after.record.id.short_hex(),
                              after.record.sequence));
    } else if (after.record.sequence > before.record.sequence + 1) {
      note(after, fmt::format("recovery points {} to {} are missing", before.record.sequence + 1,
                              after.record.sequence - 1));
    } else if (after.record.previous != before.record.id ||
               after.record.previous_digest != before.digest) {
      note(after, fmt::format("recovery point {} does not continue {}: its record was exchanged",
                              after.record.id.short_hex(), before.record.id.short_hex()));
    }
  }
  return breaks;
}

Result<InitResult> init_repository(store::ObjectStore& store, std::string_view passphrase,
                                   const StoreCapabilities& capabilities,
                                   const CancelToken& cancel) {
  const auto existing = store.stat(layout::kConfigKey, cancel);
  if (existing.ok())
    return Error(Code::kAlreadyExists, "there is already a repository in " + store.description());
  if (existing.error().code() != Code::kNotFound) return existing.error();
  if (passphrase.empty()) return Error(Code::kInvalidArgument, "the passphrase is empty");

  InitResult result;
  const crypto::BoxKeyPair box = crypto::make_box_key_pair();
  result.config.id = os::random_id<RepositoryId>();
  result.config.created = wall_now();
  result.config.public_key = box.public_key;
  result.config.store = capabilities;
  result.recovery_code = crypto::make_recovery_code();
  RECLO_TRY(add_key_slot(store, result.config.id, box.secret_key, SlotKind::kPassphrase,
                         "passphrase", passphrase, cancel));
  RECLO_TRY(add_key_slot(store, result.config.id, box.secret_key, SlotKind::kRecoveryCode,
                         "recovery code", result.recovery_code, cancel));
  RECLO_TRY_WITH(
      store.put_if_absent(layout::kConfigKey, encode_config(result.config, box.secret_key), cancel),
      "writing reclo.json");
  return result;
}

Result<Repository> Repository::open(store::ObjectStore& store, const CancelToken& cancel) {
  auto object = store.get(layout::kConfigKey, kRecordSizeBytesMax, cancel);
  if (!object.ok()) {
    if (object.error().code() == Code::kNotFound && object.error().os_error() == 0)
      return std::move(object).error().with("there is no ReClo repository in " +
                                            store.description() + " (make one with `reclo init`)");
    return std::move(object).error();
  }
  RECLO_ASSIGN_OR_RETURN(RepositoryConfig config, decode_config(*object));
  return Repository(store, std::move(config));
}

Result<crypto::BoxKeyPair> Repository::unlock(std::string_view words,
                                              const CancelToken& cancel) const {
  return unlock_key(*store_, config_.id, config_.public_key, words, cancel);
}

Result<std::vector<MachineRecord>> Repository::machines(std::vector<Error>* problems,
                                                        const CancelToken& cancel) const {
  return list_machines(*store_, config_.id, problems, cancel);
}

Result<crypto::SecretKey> Repository::map_key(const MachineRecord& machine,
                                              const crypto::BoxKeyPair& box) const {
  auto key = crypto::open_sealed_key(box, machine.sealed_map_key);
  if (!key.ok()) return std::move(key).error().with(layout::machine_record(machine.id));
  return key;
}

Result<MachinePoints> Repository::points(const MachineRecord& machine,
                                         const CancelToken& cancel) const {
  const std::string prefix = layout::sessions_prefix(machine.id);
  std::map<SessionId, SessionKeys> sessions;
  RECLO_TRY(store_->list(
      prefix,
      [&](const store::ObjectInfo& info) -> Status {
        const std::string_view rest = std::string_view(info.key).substr(prefix.size());
        const auto id = SessionId::parse(rest.substr(0, rest.find('/')));
        if (!id.ok()) return {};
        if (rest.ends_with("/begin")) sessions[*id].begun = true;
        if (rest.ends_with("/end")) sessions[*id].ended = true;
        if (sessions.size() > kSessionsMax)
          return Error(Code::kResourceExhausted, "more sessions than this version handles");
        return {};
      },
      cancel));
  MachinePoints out;
  out.machine = machine;
  for (const auto& [id, keys] : sessions) {
    if (!keys.ended) {
      out.open_sessions.push_back(id);
      continue;
    }
    auto point = load_point(*this, machine, id, cancel);
    if (point.ok()) {
      out.points.push_back(std::move(point).value());
      continue;
    }
    const Code code = point.error().code();
    if (code == Code::kNotFound) continue;
    if (code != Code::kCorruption && code != Code::kUnsupported) return std::move(point).error();
    out.warnings.push_back(point.error().message());
  }
  std::sort(out.points.begin(), out.points.end(), [](const Point& a, const Point& b) {
    return std::tie(a.record.sequence, a.record.id) < std::tie(b.record.sequence, b.record.id);
  });
  for (ChainBreak& gap : check_chain(out.points)) out.warnings.push_back(std::move(gap.what));
  return out;
}

Result<Point> Repository::point(const MachineRecord& machine, const PointId& id,
                                const CancelToken& cancel) const {
  return load_point(*this, machine, id, cancel);
}

Result<FoundPoint> find_point(const Repository& repository, std::string_view text,
                              const CancelToken& cancel) {
  const bool latest = text == "latest" || text.starts_with("latest:");
  const std::string_view name = text.starts_with("latest:") ? text.substr(7) : std::string_view();
  if (!latest && (text.size() < 4 || text.size() > 32 ||
                  text.find_first_not_of("0123456789abcdef") != std::string_view::npos))
    return Error(Code::kInvalidArgument,
                 fmt::format("'{}' names no recovery point: give an id, at least 4 digits of one, "
                             "'latest' or 'latest:SERVER'",
                             text));
  std::vector<Error> problems;
  RECLO_ASSIGN_OR_RETURN(const auto machines, repository.machines(&problems, cancel));
  std::vector<FoundPoint> found;
  std::vector<std::string> warnings;
  for (const Error& problem : problems) warnings.push_back(problem.message());
  for (const MachineRecord& machine : machines) {
    if (!name.empty() && machine.name != name) continue;
    RECLO_ASSIGN_OR_RETURN(MachinePoints points, repository.points(machine, cancel));
    warnings.insert(warnings.end(), points.warnings.begin(), points.warnings.end());
    for (Point& point : points.points) {
      if (latest) {
        // Within a machine the sequence decides, whatever its clock said.
        const bool last = &point == &points.points.back();
        if (!last) continue;
        if (found.empty() || newer(point, found[0].point))
          found = {FoundPoint{machine, std::move(point), {}}};
      } else if (point.record.id.hex().starts_with(text)) {
        found.push_back({machine, std::move(point), {}});
      }
    }
  }
  for (FoundPoint& candidate : found) candidate.warnings = warnings;
  if (found.empty()) {
    std::string message = name.empty() ? fmt::format("no recovery point '{}' in {}", text,
                                                     repository.store().description())
                                       : fmt::format("no recovery point of a server '{}' in {}",
                                                     name, repository.store().description());
    for (const std::string& warning : warnings) message += "; " + warning;
    return Error(warnings.empty() ? Code::kNotFound : Code::kCorruption, message);
  }
  if (found.size() > 1) {
    std::string message = fmt::format("'{}' is ambiguous:", text);
    for (const FoundPoint& candidate : found)
      message += " " + candidate.point.record.id.hex().substr(0, 12);
    return Error(Code::kInvalidArgument, message);
  }
  return std::move(found[0]);
}

}  // namespace reclo::repo
