#include "image/export_format.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "base/encoding.h"
#include "base/units.h"
#include "image/nbd_server.h"
#include "os/file.h"
#include "os/random.h"

namespace reclo::image {
namespace {

struct FormatInfo {
  ExportFormat format;
  std::string_view name;
  const char* driver;
  const char* options;
};
constexpr FormatInfo kFormats[] = {
    {ExportFormat::kQcow2, "qcow2", "qcow2", "compat=1.1,lazy_refcounts=off"},
    // Without force_size the size is rounded to what the format's CHS geometry can tell.
    {ExportFormat::kVhd, "vhd", "vpc", "subformat=dynamic,force_size=on"},
    {ExportFormat::kVhdx, "vhdx", "vhdx", "subformat=dynamic"},
    {ExportFormat::kVmdk, "vmdk", "vmdk", "subformat=monolithicSparse"},
};

const FormatInfo& info_of(ExportFormat format) {
  return *std::ranges::find(kFormats, format, &FormatInfo::format);
}

// "    (12.34/100%)\r" is how qemu-img says it; the last one counts.
double last_percentage(std::string_view text) {
  const size_t end = text.rfind("/100%)");
  const size_t start = end == std::string_view::npos ? end : text.rfind('(', end);
  if (start == std::string_view::npos) return 0;
  double percentage = 0;
  std::from_chars(text.data() + start + 1, text.data() + end, percentage);
  return std::clamp(percentage, 0.0, 100.0);
}

Status convert(const std::vector<std::string>& argv, uint64_t size_bytes, ProgressSink& progress,
               const CancelToken& cancel) {
  const os::Fd out(::memfd_create("reclo-qemu-img", MFD_CLOEXEC));
  const os::Fd err(::memfd_create("reclo-qemu-img", MFD_CLOEXEC));
  if (!out.valid() || !err.valid()) return Error::from_errno(errno, "make a memory file");
  os::SpawnOptions spawn;
  spawn.argv = argv;
  spawn.stdout_path = fmt::format("/proc/self/fd/{}", out.get());
  spawn.stderr_path = fmt::format("/proc/self/fd/{}", err.get());
  spawn.die_with_parent = true;
  RECLO_ASSIGN_OR_RETURN(os::Subprocess child, start_server(spawn));
  ProgressUpdate update;
  update.stage = "converting";
  update.total_bytes = size_bytes;
  for (;;) {
    const auto exit_code = child.poll();
    update.done_bytes = static_cast<uint64_t>(static_cast<double>(size_bytes) / 100 *
                                              last_percentage(end_of_log(spawn.stdout_path, 200)));
    progress.update(update);
    if (exit_code && *exit_code == 0) return {};
    if (exit_code)
      return Error(Code::kIo, fmt::format("qemu-img failed with exit code {}: {}", *exit_code,
                                          end_of_log(spawn.stderr_path)));
    const Status slept = cancel.sleep_for(std::chrono::milliseconds(100));
    if (!slept.ok()) {
      child.terminate(std::chrono::seconds(2));
      return slept;
    }
  }
}

Status put_in_place(const std::string& temp, const std::string& target) {
  RECLO_ASSIGN_OR_RETURN(const os::Fd fd, os::open_file(temp, os::OpenMode::kReadWrite));
  RECLO_TRY(os::fsync(fd));
  return os::rename_durably(temp, target);
}

}  // namespace

Result<ExportFormat> parse_export_format(std::string_view name) {
  for (const FormatInfo& one : kFormats)
    if (one.name == name) return one.format;
  return Error(Code::kInvalidArgument,
               fmt::format("'{}' is not a format: raw, qcow2, vhd, vhdx or vmdk", name));
}

Result<uint64_t> export_disk(const ExportRequest& request, const crypto::SecretKey& box_secret_key,
                             ProgressSink& progress, const CancelToken& cancel) {
  if (os::is_directory(request.target_path))
    return Error(Code::kInvalidArgument, request.target_path + " is a folder");
  if (!request.force && os::path_exists(request.target_path))
    return Error(Code::kAlreadyExists,
                 request.target_path + " exists: remove it first, or replace it with --force");
  RECLO_ASSIGN_OR_RETURN(const os::TempDir folder, os::TempDir::create("reclo-export-"));
  NbdExportOptions source = request.source;
  source.socket_path = os::join_path(folder.path(), "nbd.sock");
  source.listen_address.clear();
  source.die_with_parent = true;
  RECLO_ASSIGN_OR_RETURN(const NbdExport server, start_nbd_export(source, box_secret_key, cancel));

  uint8_t random[4];
  os::fill_random(random);
  // In the target's folder, to be renamed; "./": qemu-img takes "a:b" for a protocol.
  const std::string temp = os::join_path(os::parent_path(request.target_path),
                                         std::string(os::kTempPrefix) + to_hex(random) + "-export");
  const FormatInfo& format = info_of(request.format);
  Status status = convert(
      {"qemu-img", "convert", "-p", "-m", "8", "-f", "raw", "-O", format.driver, "-o",
       format.options, nbd_uri(source.socket_path, ""), temp.starts_with('/') ? temp : "./" + temp},
      server.size_bytes, progress, cancel);
  stop_nbd_export(server.pid);
  if (status.ok()) status = put_in_place(temp, request.target_path);
  if (!status.ok()) {
    ignore_error(os::remove_file(temp), "the first error is the one to tell");
    return std::move(status).error().with("exporting to " + request.target_path);
  }
  return os::file_size_bytes(request.target_path);
}

}  // namespace reclo::image
