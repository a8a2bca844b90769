#include "backup/known_sessions.h"

#include "base/limits.h"
#include "os/file.h"
#include "repo/layout.h"

namespace reclo::backup {

std::set<SessionId> load_known_sessions(const std::string& path) {
  std::set<SessionId> sessions;
  const auto content = os::read_file(path, uint64_t{kSessionsMax} * SessionId::kSize);
  if (!content.ok() || content->size() % SessionId::kSize != 0) return sessions;
  for (size_t at = 0; at < content->size(); at += SessionId::kSize)
    sessions.insert(SessionId::from_bytes(ByteSpan(*content).subspan(at, SessionId::kSize)));
  return sessions;
}

Status store_known_sessions(const std::string& path, const std::set<SessionId>& sessions) {
  Bytes content;
  content.reserve(sessions.size() * SessionId::kSize);
  for (const SessionId& id : sessions) {
    const ByteSpan bytes = id.bytes();
    content.insert(content.end(), bytes.begin(), bytes.end());
  }
  return os::write_file_durably(path, content);
}

Result<std::set<SessionId>> list_sessions(const repo::Repository& repository,
                                          const MachineId& machine, const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(
      const std::vector<std::string> names,
      repository.store().list_children(repo::layout::sessions_prefix(machine), cancel));
  if (names.size() > kSessionsMax)
    return Error(Code::kResourceExhausted, "more sessions than this version handles");
  std::set<SessionId> sessions;
  for (const std::string& name : names) {
    const auto id = SessionId::parse(std::string_view(name).substr(0, name.find('/')));
    if (id.ok()) sessions.insert(*id);  // others are not ours
  }
  return sessions;
}

}  // namespace reclo::backup
