// Which sessions of its own a server has seen to their end.
//
// A server that is set back (a reverted virtual machine, a server that came back from its own
// backup) has an old state folder: it does not know the points that were made since. Without this
// memory it would number its next point like one of those, and "latest" would go on naming the
// newest of the abandoned ones. The memory is set back together with the rest, so whatever the
// repository holds beyond it is looked at. Losing it costs reading every point's record once.
#pragma once

#include <set>
#include <string>

#include "base/cancel.h"
#include "base/ids.h"
#include "base/result.h"
#include "repo/repository.h"

namespace reclo::backup {

inline constexpr const char* kKnownSessionsFile = "sessions.known";

/// Nothing when the file is missing or damaged.
std::set<SessionId> load_known_sessions(const std::string& path);
Status store_known_sessions(const std::string& path, const std::set<SessionId>& sessions);

/// The machine's sessions in the repository, of any state. One LIST for each thousand.
Result<std::set<SessionId>> list_sessions(const repo::Repository& repository,
                                          const MachineId& machine, const CancelToken& cancel);

}  // namespace reclo::backup
