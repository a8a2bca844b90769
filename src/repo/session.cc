#include "repo/session.h"

#include <fmt/format.h>

#include "base/kill_point.h"
#include "base/limits.h"
#include "crypto/hash.h"
#include "os/random.h"
#include "repo/layout.h"

namespace reclo::repo {

SessionWriter::SessionWriter(const Repository& repository, const MachineKeys& keys,
                             const SessionOptions& options)
    : repository_(repository),
      keys_(keys),
      id_(options.resume ? *options.resume : os::random_id<SessionId>()),
      run_(options.run),
      started_(wall_now()),
      data_key_(crypto::SecretKey::random()),
      sealed_data_key_(crypto::seal_to(repository.config().public_key, data_key_.bytes())) {
  RECLO_CHECK(run_ < PackId::kRunsMax);
}

Status SessionWriter::check_pins(const std::vector<PointId>& pins,
                                 const CancelToken& cancel) const {
  for (const PointId& pin : pins) {
    const auto found = repository_.store().stat(layout::tombstone(keys_.id, pin), cancel);
    if (found.ok())
      return Error(Code::kConflict,
                   fmt::format("the parent recovery point {} is being removed", pin.short_hex()));
    if (found.error().code() != Code::kNotFound) return found.error();
  }
  return {};
}

Result<std::unique_ptr<SessionWriter>> SessionWriter::begin(const Repository& repository,
                                                            const MachineKeys& keys,
                                                            const SessionOptions& options,
                                                            const CancelToken& cancel) {
  std::unique_ptr<SessionWriter> session(new SessionWriter(repository, keys, options));
  store::ObjectStore& store = repository.store();
  if (options.resume) {
    const auto ended = store.stat(layout::session_end(keys.id, session->id_), cancel);
    if (ended.ok()) return Error(Code::kConflict, "the interrupted session was ended meanwhile");
    if (ended.error().code() != Code::kNotFound) return ended.error();
  } else {
    const BeginRecord record{SessionKind::kBackup, keys.id, session->id_, session->started_,
                             options.pins};
    RECLO_TRY_WITH(
        store.put_if_absent(layout::session_begin(keys.id, session->id_),
                            encode_begin(record, repository.id(), &keys.signing), cancel),
        "beginning the backup session");
  }
  RECLO_KILL_POINT("session.begun");
  RECLO_TRY(session->check_pins(options.pins, cancel));
  return session;
}

PackBuilder SessionWriter::new_pack(PackKind kind) {
  const uint32_t number = next_pack_.fetch_add(1);
  RECLO_CHECK(number < PackId::kPacksPerRunMax);
  PackHeader header;
  header.kind = kind;
  header.repository = repository_.id();
  header.machine = keys_.id;
  header.id = {id_, (run_ << PackId::kRunShift) | number};
  if (kind == PackKind::kData) header.sealed_data_keys = {sealed_data_key_};
  return PackBuilder(std::move(header), kind == PackKind::kData ? data_key_ : keys_.map_key,
                     keys_.map_key);
}

Status SessionWriter::failure() const {
  const std::lock_guard lock(mutex_);
  if (failure_) return *failure_;
  return {};
}

Error SessionWriter::fail(Error error) {
  const std::lock_guard lock(mutex_);
  if (!failure_) failure_ = error;
  return error;
}

Status SessionWriter::upload(const SealedPack& pack, const CancelToken& cancel) {
  RECLO_TRY(failure());
  Status status =
      repository_.store().put_if_absent(layout::pack(keys_.id, pack.id), pack.bytes, cancel);
  if (!status.ok()) return fail(std::move(status).error().with("uploading a pack"));
  RECLO_KILL_POINT("pack.uploaded");
  return {};
}

Result<Point> SessionWriter::commit(PointRecord record, const CancelToken& cancel) {
  RECLO_TRY(failure());
  record.machine = keys_.id;
  record.id = id_;
  record.server = keys_.name;
  const Bytes object = encode_point(record, repository_.id(), keys_.signing);
  RECLO_KILL_POINT("session.before_commit");
  Status status =
      repository_.store().put_if_absent(layout::session_end(keys_.id, id_), object, cancel);
  if (!status.ok()) {
    if (status.error().code() == Code::kAlreadyExists)
      return fail(Error(Code::kConflict,
                        "this backup was given up by the repository's maintenance while it "
                        "was silent: nothing is lost, run it again"));
    return fail(std::move(status).error().with("committing the recovery point"));
  }
  RECLO_KILL_POINT("session.committed");
  return Point{std::move(record), to_hex(crypto::sha256(object))};
}

Result<SessionId> begin_reader_session(const Repository& repository, const MachineId& machine,
                                       const PointId& point, const CancelToken& cancel) {
  const SessionId session = os::random_id<SessionId>();
  const BeginRecord record{SessionKind::kReader, machine, session, wall_now(), {point}};
  RECLO_TRY(repository.store().put_if_absent(layout::session_begin(machine, session),
                                             encode_begin(record, repository.id(), nullptr),
                                             cancel));
  // As for writers: publish the pin, then look for a tombstone.
  const auto tombstone = repository.store().stat(layout::tombstone(machine, point), cancel);
  if (tombstone.ok())
    return Error(Code::kConflict,
                 fmt::format("the recovery point {} is being removed", point.short_hex()));
  if (tombstone.error().code() != Code::kNotFound) return tombstone.error();
  return session;
}

Status end_reader_session(const Repository& repository, const MachineId& machine,
                          const SessionId& session, const CancelToken& cancel) {
  Status status =
      repository.store().put_if_absent(layout::session_end(machine, session), closed_end(), cancel);
  if (!status.ok() && status.error().code() == Code::kAlreadyExists) return {};
  return status;
}

}  // namespace reclo::repo
