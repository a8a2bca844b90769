#include "backup/backup_plan.h"

#include <fmt/format.h>

#include "backup/known_sessions.h"
#include "backup/page_tags.h"
#include "base/kill_point.h"
#include "base/limits.h"
#include "base/log.h"
#include "repo/layout.h"

namespace reclo::backup {
namespace {

Result<std::optional<repo::Point>> load_if_there(const repo::Repository& repository,
                                                 const repo::MachineRecord& machine,
                                                 const PointId& id, const CancelToken& cancel) {
  auto point = repository.point(machine, id, cancel);
  if (point.ok()) return std::optional<repo::Point>(std::move(point).value());
  if (point.error().code() == Code::kNotFound) return std::optional<repo::Point>();
  return std::move(point).error();
}

Result<bool> session_ended(const repo::Repository& repository, const MachineId& machine,
                           const SessionId& session, const CancelToken& cancel) {
  const auto end = repository.store().stat(repo::layout::session_end(machine, session), cancel);
  if (end.ok()) return true;
  if (end.error().code() == Code::kNotFound) return false;
  return end.error();
}

// Looks at what the repository holds beyond this state folder's memory: the folder may have been
// set back (known_sessions.h).
Status find_unknown_points(const ServerState& state, const repo::Repository& repository,
                           const repo::MachineRecord& machine, StartingPoint& start,
                           const CancelToken& cancel) {
  const std::set<SessionId> known = load_known_sessions(state.path(kKnownSessionsFile));
  RECLO_ASSIGN_OR_RETURN(const std::set<SessionId> present,
                         list_sessions(repository, machine.id, cancel));
  for (const SessionId& session : present) {
    if (known.contains(session) || session == start.parent->record.id) {
      start.sessions.insert(session);
      continue;
    }
    auto point = load_if_there(repository, machine, session, cancel);
    if (!point.ok()) {
      const Code code = point.error().code();
      if (code != Code::kCorruption && code != Code::kUnsupported) return std::move(point).error();
      start.warnings.push_back(point.error().message());
      continue;
    }
    if (!*point) continue;  // fenced, or still open
    start.sessions.insert(session);
    if ((*point)->record.sequence > start.newest->record.sequence) start.newest = std::move(*point);
  }
  if (start.newest->record.id != start.parent->record.id)
    start.warnings.push_back(
        fmt::format("this server was set back to recovery point {} (number {}), while the "
                    "repository has points up to {} (number {}): this backup follows those, "
                    "with the server as it is now",
                    start.parent->record.id.short_hex(), start.parent->record.sequence,
                    start.newest->record.id.short_hex(), start.newest->record.sequence));
  return {};
}

// The remembered point, or what a listing finds when that is gone.
Status find_newest(const ServerState& state, const repo::Repository& repository,
                   const repo::MachineRecord& machine, StartingPoint& start,
                   const CancelToken& cancel) {
  if (state.last_point()) {
    RECLO_ASSIGN_OR_RETURN(start.parent,
                           load_if_there(repository, machine, state.last_point()->id, cancel));
    if (start.parent && start.parent->digest != state.last_point()->digest)
      start.warnings.push_back(
          "the record of the last recovery point was exchanged in the repository");
    start.newest = start.parent;
    if (start.parent) return find_unknown_points(state, repository, machine, start, cancel);
    start.warnings.push_back(
        fmt::format("the last recovery point {} is no longer in the repository",
                    state.last_point()->id.short_hex()));
  }
  RECLO_ASSIGN_OR_RETURN(repo::MachinePoints points, repository.points(machine, cancel));
  for (std::string& warning : points.warnings) start.warnings.push_back(std::move(warning));
  for (const repo::Point& point : points.points) start.sessions.insert(point.record.id);
  if (!points.points.empty()) start.newest = std::move(points.points.back());
  start.parent = start.newest;
  return {};
}

}  // namespace

repo::MachineRecord own_record(const repo::MachineKeys& keys) {
  repo::MachineRecord record;
  record.id = keys.id;
  record.name = keys.name;
  record.signing_key = keys.signing.public_key;
  return record;
}

Status finish_commit(ServerState& state, const repo::Point& point) {
  RECLO_TRY(state.set_last_point({point.record.id, point.record.sequence, point.digest}));
  RECLO_KILL_POINT("backup.point_remembered");
  for (size_t i = 0; i < point.record.disks.size(); ++i) {
    const std::string updates = state.tag_updates_path(i);
    if (!os::path_exists(updates)) continue;  // applied by an earlier attempt
    RECLO_ASSIGN_OR_RETURN(PageTagFile tags, PageTagFile::open(state.tags_path(i)));
    const auto& root = point.record.disks[i].map_root;
    const Status applied = tags.apply(updates, point.record.id, root ? root->id : ChunkId());
    if (!applied.ok() && applied.error().code() != Code::kCorruption) return applied;
    // The file keeps no stamp or an old one: the next backup sees that this memory is lost.
    if (!applied.ok()) log_warning("disk {}: {}", i, applied.error().message());
    RECLO_KILL_POINT("backup.tags_applied");
    RECLO_TRY(os::remove_file(updates));
  }
  return os::remove_file(state.journal_path());
}

Result<StartingPoint> find_starting_point(ServerState& state, const repo::Repository& repository,
                                          const std::string& disks_signature, ParentUse parent_use,
                                          const CancelToken& cancel) {
  StartingPoint start;
  const repo::MachineRecord machine = own_record(state.keys());
  std::optional<JournalContent> journal = Journal::load(state.journal_path());
  if (journal) {
    RECLO_ASSIGN_OR_RETURN(const bool ended,
                           session_ended(repository, machine.id, journal->header.session, cancel));
    if (ended) {
      // Committed, but the machine went down before it could note it; or fenced.
      RECLO_ASSIGN_OR_RETURN(const auto committed,
                             load_if_there(repository, machine, journal->header.session, cancel));
      if (committed) RECLO_TRY(finish_commit(state, *committed));
      journal.reset();
    }
  }
  RECLO_TRY(find_newest(state, repository, machine, start, cancel));
  std::optional<repo::Point> parent = start.parent;
  if (parent_use == ParentUse::kNone) start.parent.reset();
  if (journal) {
    // A session that stores everything anew is continued as that.
    if (!journal->header.parent) start.parent.reset();
    const std::optional<PointId> parent_id =
        start.parent ? std::optional(start.parent->record.id) : std::nullopt;
    const bool fits = journal->header.disks == disks_signature &&
                      journal->header.parent == parent_id && journal->runs < repo::PackId::kRunsMax;
    if (fits) {
      start.resume = std::move(journal);
    } else if (parent_use == ParentUse::kNewest) {
      start.parent = std::move(parent);
    }
  }
  return start;
}

}  // namespace reclo::backup
