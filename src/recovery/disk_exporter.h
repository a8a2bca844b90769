// Who serves a recovery point's disks as NBD on Unix sockets. In production RepositoryExporter.
// Thread rule: one thread at a time.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/cancel.h"
#include "base/result.h"

namespace reclo::recovery {

struct ExportRequest {
  uint32_t disk_index = 0;
  std::string socket_path;      // nothing listens there; a dead server's socket file was removed
  std::string log_path;         // the server's words are appended
  std::string cache_directory;  // the server's own, may be removed while it does not run
};

struct RunningExport {
  pid_t pid = -1;
  uint64_t size_bytes = 0;
};

class DiskExporter {
 public:
  virtual ~DiskExporter() = default;
  /// Starts a read-only server that outlives this process, and waits until it answers.
  virtual Result<RunningExport> start(const ExportRequest& request, const CancelToken& cancel) = 0;
};

}  // namespace reclo::recovery
