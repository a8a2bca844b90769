// The processes of recovery's tests:
//   recovery_test_tool supervise IMAGE --state-dir D --instance ID [--key-fd N]
//   recovery_test_tool recover IMAGE STATE_DIR     (to be killed at kill points)
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/units.h"
#include "recovery/instance.h"
#include "recovery/supervisor.h"
#include "recovery/testing/file_exporter.h"

namespace reclo::recovery {
namespace {

Status supervise_command(const std::vector<std::string>& args) {
  std::string state_dir;
  std::string id;
  crypto::SecretKey key;
  for (size_t i = 1; i + 1 < args.size(); i += 2) {
    if (args[i] == "--state-dir") state_dir = args[i + 1];
    if (args[i] == "--instance") id = args[i + 1];
    if (args[i] == "--key-fd") {
      RECLO_ASSIGN_OR_RETURN(
          key,
          read_key_descriptor(static_cast<int>(std::strtol(args[i + 1].c_str(), nullptr, 10))));
      log_info("got a key that starts with byte {}", key.bytes()[0]);
    }
  }
  testing::FileExporter exporter(args[0]);
  SuperviseOptions options;
  options.look_every = std::chrono::milliseconds(50);
  return supervise(InstanceStore(state_dir), id, &exporter, options, CancelToken());
}

Status recover_command(const std::vector<std::string>& args) {
  testing::FileExporter exporter(args[0]);
  RecoverOptions options;
  options.server = "killed";
  options.point = "p";
  options.point_time = wall_now();
  RECLO_ASSIGN_OR_RETURN(const uint64_t size_bytes, os::file_size_bytes(args[0]));
  options.disks = {{0, size_bytes}};
  options.accelerator = "tcg";
  options.memory_bytes = 64 * kMiB;
  NullProgress progress;
  RECLO_TRY(recover(InstanceStore(args[1]), options, exporter, {}, progress, CancelToken()));
  return {};
}

}  // namespace
}  // namespace reclo::recovery

int main(int argc, char** argv) {
  reclo::set_log_level(reclo::LogLevel::kInfo);
  const std::vector<std::string> args(argv + std::min(argc, 2), argv + argc);
  const std::string verb = argc > 1 ? argv[1] : "";
  reclo::Status status = reclo::Error(reclo::Code::kInvalidArgument, "supervise or recover");
  if (verb == "supervise" && args.size() >= 5) status = reclo::recovery::supervise_command(args);
  if (verb == "recover" && args.size() == 2) status = reclo::recovery::recover_command(args);
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", status.error().message().c_str());
  return 1;
}
