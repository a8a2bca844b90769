// Serves raw image files as NBD with qemu-nbd: a server like production's over a disk that a test
// can make in a moment, and one that outlives who started it. (Debian 12's nbdkit asks the kernel
// to end it with its parent, whatever its options; ReClo's own plugin takes that back.) For tests
// only.
#pragma once

#include <fmt/format.h>

#include <map>

#include "os/file.h"
#include "os/subprocess.h"
#include "recovery/disk_exporter.h"
#include "recovery/process_ref.h"

namespace reclo::recovery::testing {

class FileExporter final : public DiskExporter {
 public:
  explicit FileExporter(std::string image) : image_(std::move(image)) {}

  Result<RunningExport> start(const ExportRequest& request, const CancelToken& cancel) override {
    RECLO_TRY(os::make_directories(request.cache_directory));
    os::SpawnOptions options;
    options.argv = {"qemu-nbd",   "--read-only",  "--persistent",
                    "--shared=8", "--format=raw", "--socket=" + request.socket_path,
                    image_};
    options.stdout_path = options.stderr_path = request.log_path;
    options.new_session = true;
    RECLO_ASSIGN_OR_RETURN(os::Subprocess process, os::Subprocess::start(options));
    while (!listening_process(request.socket_path)) {
      if (process.poll()) return Error(Code::kInternal, "qemu-nbd ended, see " + request.log_path);
      RECLO_TRY(cancel.sleep_for(std::chrono::milliseconds(5)));
    }
    RECLO_ASSIGN_OR_RETURN(const uint64_t size_bytes, os::file_size_bytes(image_));
    return RunningExport{process.pid(), size_bytes};
  }

 private:
  std::string image_;
};

}  // namespace reclo::recovery::testing
