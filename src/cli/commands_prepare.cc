// prepare and unprepare: making a recovery point start elsewhere, and taking that back.
#include <fmt/format.h>

#include <algorithm>

#include "cli/commands.h"
#include "cli/prepare_point.h"
#include "cli/terminal.h"
#include "os/file.h"
#include "recovery/ec2/point_source.h"

namespace reclo::cli {
namespace {

constexpr uint64_t kKeySizeBytesMax = 16 * kKiB;
constexpr uint64_t kScriptSizeBytesMax = kMiB;

Result<std::string> read_ssh_key(const std::string& path) {
  RECLO_ASSIGN_OR_RETURN(const Bytes content, os::read_file(path, kKeySizeBytesMax));
  std::string key(as_text(content));
  while (!key.empty() && (key.back() == '\n' || key.back() == '\r' || key.back() == ' '))
    key.pop_back();
  const bool known =
      std::any_of(std::begin({"ssh-", "ecdsa-", "sk-"}), std::end({"ssh-", "ecdsa-", "sk-"}),
                  [&](const char* start) { return key.starts_with(start); });
  const bool one_line =
      std::all_of(key.begin(), key.end(), [](char c) { return c >= ' ' && c != 0x7f; });
  if (!known || !one_line)
    return Error(
        Code::kInvalidArgument,
        fmt::format("{} is no public key: one line that begins with ssh-ed25519 or such", path));
  return key;
}

Json fixes_json(const recovery::PreparedRecord& record) {
  Json out = Json::array();
  for (const recovery::FixReport& fix : record.fixes)
    out.push_back({{"name", fix.name},
                   {"needed", fix.needed},
                   {"why", fix.why},
                   {"changed", fix.files},
                   {"blocker", fix.blocker}});
  return out;
}

uint64_t changed_bytes(const recovery::PreparedRecord& record) {
  uint64_t sum = 0;
  for (const recovery::PreparedRun& run : record.runs) sum += run.range.size_bytes;
  return sum;
}

std::string report_text(const recovery::PreparedRecord& record, bool whole) {
  std::string out = fmt::format("system    {}\n", record.system.empty() ? "-" : record.system);
  for (const recovery::FixReport& fix : record.fixes) {
    if (!whole && !fix.needed && fix.blocker.empty()) continue;
    out += fmt::format("{:<18} {:<14} {}\n", fix.name,
                       !fix.blocker.empty() ? "cannot be done"
                       : !fix.files.empty() ? "changed"
                       : fix.needed         ? "left"
                                            : "nothing to do",
                       fix.why);
    for (const std::string& file : fix.files) out += fmt::format("{:<18} {}\n", "", file);
  }
  for (const std::string& note : record.notes) out += fmt::format("note      {}\n", note);
  return out;
}

Status print_result(const Context& context, const PrepareArgs& args,
                    const recovery::PrepareResult& result) {
  const recovery::PreparedRecord& record = result.record;
  if (context.options.json)
    return print_json({{"bootable", record.verdict.empty()},
                       {"verdict", record.verdict.empty() ? "bootable" : record.verdict},
                       {"point", record.point},
                       {"target", record.target},
                       {"system", record.system},
                       {"overlay", record.id},
                       {"path", result.overlay ? Json(result.path) : Json(nullptr)},
                       {"cached", result.cached},
                       {"changed_bytes", changed_bytes(record)},
                       {"fixes", fixes_json(record)},
                       {"notes", record.notes}});
  std::string out = report_text(record, args.report);
  if (record.verdict.empty())
    out += fmt::format("verdict   bootable on {}{}\n", record.target,
                       result.cached  ? ": prepared already"
                       : args.dry_run ? ": nothing was kept"
                                      : fmt::format(": {} of the disks are changed",
                                                    format_bytes(changed_bytes(record))));
  else
    out += fmt::format("verdict   not bootable: {}\n", record.verdict);
  return print(out);
}

}  // namespace

Result<recovery::PrepareRequest> prepare_request(const Context& context, const RepositoryId& id,
                                                 const repo::MachineRecord& machine) {
  recovery::PrepareRequest request;
  RECLO_ASSIGN_OR_RETURN(request.store, store_options(context));
  request.machine = machine.id;
  request.repository = id.hex();
  request.state_directory = context.options.state_directory;
  request.choices.server = machine.name;
  return request;
}

Status run_prepare(Context& context, const PrepareArgs& args) {
  recovery::PrepareChoices choices;
  choices.target =
      args.target == "ec2" ? recovery::PrepareTarget::kEc2 : recovery::PrepareTarget::kQemu;
  if (!args.ssh_key_file.empty()) {
    RECLO_ASSIGN_OR_RETURN(choices.ssh_key, read_ssh_key(args.ssh_key_file));
  }
  if (!args.first_boot_file.empty()) {
    RECLO_ASSIGN_OR_RETURN(const Bytes script,
                           os::read_file(args.first_boot_file, kScriptSizeBytesMax));
    choices.first_boot_script = std::string(as_text(script));
  }
  RECLO_ASSIGN_OR_RETURN(ReadablePoint readable, open_point(context, args.point));
  const repo::Repository& repository = *readable.open.repository;
  RECLO_ASSIGN_OR_RETURN(recovery::PrepareRequest request,
                         prepare_request(context, repository.id(), readable.found.machine));
  choices.server = request.choices.server;
  request.choices = choices;
  request.dry_run = args.dry_run;
  request.anew = args.anew;
  RECLO_ASSIGN_OR_RETURN(crypto::SecretKey map_key,
                         repository.map_key(readable.found.machine, readable.box));
  const crypto::SecretKey box = readable.box.secret_key.clone();
  recovery::PointSource point(repository, readable.found.machine, readable.found.point,
                              std::move(map_key), std::move(readable.box));
  RECLO_ASSIGN_OR_RETURN(
      const recovery::PrepareResult result,
      recovery::prepare_point(request, point, box, *context.progress, context.cancel));
  if (result.overlay)
    for (size_t disk = 0; disk < args.apply_to.size(); ++disk)
      RECLO_TRY(result.overlay->apply_to(static_cast<uint32_t>(disk), args.apply_to[disk],
                                         context.cancel));
  context.progress.reset();
  RECLO_TRY(print_result(context, args, result));
  if (result.record.verdict.empty()) return {};
  return Error(Code::kUnsupported,
               fmt::format("'{}' would not start on {}: {}", readable.found.machine.name,
                           args.target, result.record.verdict));
}

Status run_unprepare(Context& context, const UnprepareArgs& args) {
  RECLO_ASSIGN_OR_RETURN(const recovery::UnprepareReport report,
                         recovery::unprepare_guest(args.disks, context.cancel));
  context.progress.reset();
  if (context.options.json)
    return print_json({{"restored", report.restored}, {"left", report.left}});
  std::string out;
  for (const std::string& path : report.restored) out += "restored  " + path + "\n";
  for (const std::string& path : report.left) out += "left      " + path + "\n";
  return print(out.empty() ? "It was not prepared: nothing to take back\n" : out);
}

Result<std::unique_ptr<recovery::PreparedSource>> prepare_for_ec2(
    const Context& context, const RepositoryId& id, const repo::MachineRecord& machine,
    recovery::StandbySource& point, const crypto::SecretKey& box, ProgressSink& progress,
    const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const recovery::PrepareRequest request,
                         prepare_request(context, id, machine));
  auto result = recovery::prepare_point(request, point, box, progress, cancel);
  constexpr const char* kWayOut = "`--no-prepare` takes the server as it is";
  if (!result.ok())
    return Error(result.error().code(), fmt::format("preparing '{}' for EC2: {} ({})", machine.name,
                                                    result.error().message(), kWayOut));
  if (!result->record.verdict.empty())
    return Error(Code::kUnsupported, fmt::format("'{}' would not start in EC2: {} ({})",
                                                 machine.name, result->record.verdict, kWayOut));
  return std::make_unique<recovery::PreparedSource>(point, std::move(result->overlay));
}

}  // namespace reclo::cli
