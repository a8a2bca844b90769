#include "repo/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/limits.h"
#include "repo/envelope.h"
#include "repo/layout.h"
#include "repo/verify_maps.h"
#include "repo/verify_problems.h"

namespace reclo::repo {
namespace {

// One check of one repository.
class Verifier {
 public:
  Verifier(const Repository& repository, const VerifyOptions& options, ProgressSink& progress)
      : repository_(repository),
        options_(options),
        progress_(progress),
        problems_(options.problems_max, options.ranges_per_problem_max),
        pool_(options.threads != 0 ? options.threads : usable_cpu_count()) {}

  Result<VerifyReport> run(const CancelToken& cancel) {
    RECLO_TRY(check_config(cancel));
    RECLO_TRY(check_key_slots(cancel));
    RECLO_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                           store().list_children(layout::kMachinePrefix, cancel));
    for (std::string name : names) {
      if (name.ends_with('/')) name.pop_back();
      const auto machine = MachineId::parse(name);
      if (machine.ok()) RECLO_TRY(check_machine(*machine, cancel));
    }
    problems_.finish(report_);
    return std::move(report_);
  }

 private:
  struct SessionKeys {
    bool begun = false;
    bool ended = false;
  };

  store::ObjectStore& store() const { return repository_.store(); }

  // Keeps damage of `object`; returns whether there was none, or the error that ends the check.
  Result<bool> whole(const std::string& object, const Status& status) {
    if (status.ok()) return true;
    if (!is_damage(status.error())) return status.error();
    problems_.add(object, status.error().message());
    return false;
  }

  Status check_config(const CancelToken& cancel) {
    const std::string key = layout::kConfigKey;
    const auto object = store().get(key, kRecordSizeBytesMax, cancel);
    const auto check = [&]() -> Status {
      if (!object.ok()) return object.error();
      RECLO_ASSIGN_OR_RETURN(const RepositoryConfig config, decode_config(*object));
      if (options_.box == nullptr) return {};
      if (config.public_key != options_.box->public_key)
        return Error(Code::kCorruption,
                     "its public key is not the one that this passphrase or "
                     "recovery code belongs to");
      return verify_check(*object, options_.box->secret_key, key);
    };
    RECLO_TRY(whole(key, check()));
    return {};
  }

  Status check_key_slots(const CancelToken& cancel) {
    std::vector<std::string> keys;
    RECLO_TRY(store().list(
        layout::kKeySlotPrefix,
        [&](const store::ObjectInfo& info) -> Status {
          if (keys.size() < kSessionsMax) keys.push_back(info.key);
          return {};
        },
        cancel));
    for (const std::string& key : keys) {
      const auto object = store().get(key, kRecordSizeBytesMax, cancel);
      const auto check = [&]() -> Status {
        if (!object.ok()) return object.error();
        RECLO_TRY(check_key_slot(*object, repository_.id(), key));
        if (options_.box == nullptr) return {};
        return verify_check(*object, options_.box->secret_key, key);
      };
      RECLO_TRY(whole(key, check()));
    }
    if (keys.empty())
      problems_.add(layout::kKeySlotPrefix, "there is no key slot: nobody can ever restore");
    return {};
  }

  Status check_machine(const MachineId& id, const CancelToken& cancel) {
    const std::string key = layout::machine_record(id);
    const auto machine = load_machine(store(), repository_.id(), id, cancel);
    if (!machine.ok()) {
      if (!is_damage(machine.error())) return machine.error();
      problems_.add(key, machine.error().message() +
                             ": without it none of this server's recovery points can be restored");
      return {};
    }
    RECLO_ASSIGN_OR_RETURN(const std::vector<Point> points, check_sessions(*machine, cancel));
    crypto::SecretKey map_key;
    if (options_.box != nullptr) {
      auto opened = repository_.map_key(*machine, *options_.box);
      if (!opened.ok()) {
        problems_.add(key, opened.error().message());
        return {};
      }
      map_key = std::move(opened).value();
    } else if (options_.machine_keys != nullptr && options_.machine_keys->id == id) {
      map_key = options_.machine_keys->map_key.clone();
    } else {
      report_.servers_not_checked.push_back(machine->name);
      report_.points_checked += points.size();
      return {};
    }
    std::optional<crypto::BoxKeyPair> box;
    if (options_.box != nullptr)
      box = crypto::BoxKeyPair{options_.box->public_key, options_.box->secret_key.clone()};
    SlotReader reader(store(), repository_.id(), id, std::move(map_key), std::move(box));
    MapVerifier maps(reader, options_, pool_, problems_, progress_);
    return maps.check(points, report_, cancel);
  }

  // Every record of every session; the points that can be used, in order.
  Result<std::vector<Point>> check_sessions(const MachineRecord& machine,
                                            const CancelToken& cancel) {
    RECLO_ASSIGN_OR_RETURN(const auto sessions, list_sessions(machine.id, cancel));
    std::vector<Point> points;
    for (const auto& [session, keys] : sessions) {
      RECLO_TRY(check_begin(machine, session, keys.begun, cancel));
      if (!keys.ended) {
        ++report_.open_sessions;
        continue;
      }
      auto point = repository_.point(machine, session, cancel);
      if (point.ok()) {
        points.push_back(std::move(point).value());
      } else if (point.error().code() != Code::kNotFound) {  // that: fenced, or a reader's
        const std::string key = layout::session_end(machine.id, session);
        if (!is_damage(point.error())) return point.error();
        problems_.affect(problems_.add(key, point.error().message()),
                         {machine.name, session, std::nullopt, 0, 0});
      }
    }
    std::sort(points.begin(), points.end(), [](const Point& a, const Point& b) {
      return std::tie(a.record.sequence, a.record.id) < std::tie(b.record.sequence, b.record.id);
    });
    for (const ChainBreak& gap : check_chain(points))
      problems_.add(layout::session_end(machine.id, gap.at), gap.what);
    return points;
  }

  Result<std::map<SessionId, SessionKeys>> list_sessions(const MachineId& machine,
                                                         const CancelToken& cancel) {
    const std::string prefix = layout::sessions_prefix(machine);
    std::map<SessionId, SessionKeys> sessions;
    RECLO_TRY(store().list(
        prefix,
        [&](const store::ObjectInfo& info) -> Status {
          const std::string_view rest = std::string_view(info.key).substr(prefix.size());
          const auto id = SessionId::parse(rest.substr(0, rest.find('/')));
          if (!id.ok()) return {};  // not ours
          if (info.key == layout::session_begin(machine, *id)) sessions[*id].begun = true;
          if (info.key == layout::session_end(machine, *id)) sessions[*id].ended = true;
          if (sessions.size() > kSessionsMax)
            return Error(Code::kResourceExhausted, "more sessions than this version handles");
          return {};
        },
        cancel));
    return sessions;
  }

  // `begin` matters to collectors only; no point is lost with it.
  Status check_begin(const MachineRecord& machine, const SessionId& session, bool begun,
                     const CancelToken& cancel) {
    const std::string key = layout::session_begin(machine.id, session);
    if (!begun) {
      problems_.add(key, "this record is missing");
      return {};
    }
    const auto check = [&]() -> Status {
      RECLO_ASSIGN_OR_RETURN(const Bytes object, store().get(key, kRecordSizeBytesMax, cancel));
      RECLO_ASSIGN_OR_RETURN(const BeginRecord record, decode_begin(object, repository_.id(), key));
      if (record.machine != machine.id || record.session != session)
        return Error(Code::kCorruption,
                     "it is the record of another session: objects were swapped");
      RECLO_ASSIGN_OR_RETURN(const Envelope envelope, open_envelope(object, key));
      if (record.kind == SessionKind::kReader && envelope.signature.empty()) return {};
      return check_envelope(envelope, machine.signing_key, key);
    };
    RECLO_TRY(whole(key, check()));
    return {};
  }

  const Repository& repository_;
  const VerifyOptions& options_;
  ProgressSink& progress_;
  VerifyReport report_;
  ProblemList problems_;
  TaskPool pool_;
};

}  // namespace

Result<VerifyReport> verify_repository(const Repository& repository, const VerifyOptions& options,
                                       ProgressSink& progress, const CancelToken& cancel) {
  if (options.read_data && options.box == nullptr)
    return Error(Code::kInvalidArgument,
                 "reading data needs the repository's key: give a passphrase or recovery code");
  return Verifier(repository, options, progress).run(cancel);
}

}  // namespace reclo::repo
