// Where a backup starts from: the parent point, the interrupted session to continue, what the last
// run committed but did not note down. One thread.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "backup/journal.h"
#include "backup/server_state.h"

namespace reclo::backup {

struct StartingPoint {
  std::optional<repo::Point> newest;     // the chain continues from here
  std::set<SessionId> sessions;          // seen so far; to be remembered with the new point
  std::optional<repo::Point> parent;     // pages are compared with this one; usually the newest
  std::optional<JournalContent> resume;  // an interrupted session of the same disks and parent
  std::vector<std::string> warnings;
};

enum class ParentUse {
  kNewest,  // unless an interrupted session had none
  kNone,    // the newest point's map is damaged: everything is stored anew
};

/// Finishes what an earlier run left (see finish_commit), then finds the parent.
Result<StartingPoint> find_starting_point(ServerState& state, const repo::Repository& repository,
                                          const std::string& disks_signature, ParentUse parent_use,
                                          const CancelToken& cancel);

/// After `end` is stored: remembers the point, applies the page tags, removes the journal, in this
/// order. Idempotent: a crash in between is completed by the next run, because the journal goes
/// last.
Status finish_commit(ServerState& state, const repo::Point& point);

/// The machine's public half, from its own keys.
repo::MachineRecord own_record(const repo::MachineKeys& keys);

}  // namespace reclo::backup
