#include "cli/app.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <functional>

#include "base/log.h"
#include "cli/app_cloud.h"
#include "cli/app_home.h"
#include "cli/commands.h"
#include "cli/completion.h"
#include "cli/exit_code.h"
#include "cli/terminal.h"

namespace reclo::cli {
namespace {

constexpr const char* kFooter =
    "A recovery point is named by its id, a unique prefix of it, 'latest', or 'latest:SERVER'.\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 denied or wrong passphrase,\n"
    "5 damaged data, 6 store unreachable, 7 in use or conflict, 8 no space, 130 interrupted.\n"
    "See reclo(1) for everything else.";

// All verbs' arguments, and which verb was given.
struct Invocation {
  GlobalOptions global;
  bool s3_path_style = false;
  InitArgs init;
  BackupArgs backup;
  PointsArgs points;
  ShowArgs show;
  DiffArgs diff;
  RestoreArgs restore;
  ServeArgs serve;
  RecoverArgs recover;
  InstancesArgs instances;
  StopArgs stop;
  ResumeArgs resume;
  SupervisorArgs supervisor;
  PrepareArgs prepare;
  UnprepareArgs unprepare;
  StandbyArgs standby;
  PolicyArgs policy;
  HomeArgs home;
  VerifyArgs verify;
  KeyAddArgs key_add;
  KeyRemoveArgs key_remove;
  std::function<Status(Context&)> run;
};

// Registers a verb whose options the caller adds.
template <class Run>
CLI::App* add_verb(CLI::App& parent, Invocation& invocation, const std::string& name,
                   const std::string& text, Run run) {
  CLI::App* verb = parent.add_subcommand(name, text);
  verb->fallthrough();
  verb->callback([&invocation, run] { invocation.run = run; });
  return verb;
}

void add_global_options(CLI::App& app, Invocation& in) {
  GlobalOptions& g = in.global;
  const std::string group = "Repository";
  app.add_option("--repo", g.store.url, "Repository: a folder, file:///…, or s3://bucket/prefix")
      ->envname("RECLO_REPO")
      ->group(group);
  app.add_option("--s3-endpoint", g.store.s3_endpoint,
                 "URL of an S3-compatible service (default: Amazon S3)")
      ->envname("RECLO_S3_ENDPOINT")
      ->group(group);
  app.add_option("--s3-region", g.store.s3_region, "S3 region (default: as the AWS tools find it)")
      ->envname("RECLO_S3_REGION")
      ->group(group);
  app.add_flag("--s3-path-style,!--s3-virtual-host-style", in.s3_path_style,
               "Bucket in the path, not in the host name")
      ->group(group);
  app.add_option("--upload-limit", g.upload_limit, "At most so many bytes a second, e.g. 5M")
      ->group(group);
  app.add_option("--download-limit", g.download_limit, "At most so many bytes a second")
      ->group(group);
  app.add_option("--request-limit", g.store.request_limit_per_second,
                 "At most so many requests a second")
      ->group(group);
  app.add_option("--retry-for", g.retry_for_seconds,
                 "Seconds to go on trying while the store does not answer")
      ->check(CLI::Range(uint32_t{0}, uint32_t{86'400}))
      ->default_val(300)
      ->group(group);
  app.add_option("--passphrase-file", g.passphrase_file,
                 "File whose first line is the passphrase or recovery code")
      ->envname("RECLO_PASSPHRASE_FILE")
      ->group(group);
  app.add_option("--state-dir", g.state_directory, "This machine's keys, caches and instances")
      ->envname("RECLO_STATE_DIR")
      ->default_val("/var/lib/reclo")
      ->group(group);
  const std::map<std::string, ProgressMode> modes{{"auto", ProgressMode::kAuto},
                                                  {"bar", ProgressMode::kBar},
                                                  {"json", ProgressMode::kJson},
                                                  {"none", ProgressMode::kNone}};
  app.add_flag("--json", g.json, "Print the result as JSON")->group("Output");
  app.add_option("--progress", g.progress, "auto, bar, json (lines on stderr) or none")
      ->transform(CLI::CheckedTransformer(modes).description(""))
      ->type_name("MODE")
      ->group("Output");
  app.add_flag("-v,--verbose", g.verbose, "Say more on stderr")->group("Output");
}

void add_backup_verbs(CLI::App& app, Invocation& in) {
  add_verb(app, in, "init", "Make a repository",
           [&in](Context& c) { return run_init(c, in.init); });
  CLI::App* backup =
      add_verb(app, in, "backup", "Back up a server's disks: a full image first, then what changed",
               [&in](Context& c) { return run_backup_command(c, in.backup); });
  backup->add_option("--server", in.backup.server, "The server's name")->required();
  backup
      ->add_option("disks", in.backup.disks,
                   "Block devices, or raw, qcow2, VHD, VHDX or VMDK files")
      ->required();
  backup->add_flag("--full", in.backup.full,
                   "Trust no memory of earlier backups: read and compare everything");
  backup
      ->add_option("--compression", in.backup.compression_level,
                   "zstd level; 0: adapt to CPU and uplink")
      ->check(CLI::Range(-7, 19));
  backup
      ->add_option("--workers", in.backup.workers,
                   "Threads that read and compress; 0: from the CPUs")
      ->check(CLI::Range(0u, 64u));
  auto* same = backup->add_flag("--same-server", in.backup.same_server,
                                "It is the server that was enrolled, on other hardware");
  backup
      ->add_option("--branch", in.backup.branch,
                   "For a recovered copy: back up into a chain of this name; 'auto' names it")
      ->excludes(same);
  backup->add_option("--uploads", in.backup.upload_threads, "Packs uploaded at once")
      ->check(CLI::Range(1u, 32u));
}

void add_listing_verbs(CLI::App& app, Invocation& in) {
  CLI::App* points = add_verb(app, in, "points", "List recovery points",
                              [&in](Context& c) { return run_points(c, in.points); });
  points->add_option("--server", in.points.server, "Only this server's");
  CLI::App* show = add_verb(app, in, "show", "Everything about a recovery point",
                            [&in](Context& c) { return run_show(c, in.show); });
  show->add_option("point", in.show.point, "Recovery point")->required();
  CLI::App* diff = add_verb(app, in, "diff", "Changed ranges between two recovery points",
                            [&in](Context& c) { return run_diff(c, in.diff); });
  diff->add_option("before", in.diff.before, "Recovery point")->required();
  diff->add_option("after", in.diff.after, "Recovery point")->required();
}

void add_restore_verbs(CLI::App& app, Invocation& in) {
  CLI::App* restore =
      add_verb(app, in, "restore", "Write a recovery point's disk to a file or device",
               [&in](Context& c) { return run_restore(c, in.restore); });
  restore->add_option("point", in.restore.point, "Recovery point")->required();
  restore->add_option("--disk", in.restore.disk, "Which disk, from 0")->check(CLI::Range(0u, 63u));
  restore
      ->add_option("--to", in.restore.to,
                   "File or block device; one that holds most of the data is updated")
      ->required();
  restore->add_option("--format", in.restore.format, "raw, qcow2, vhd, vhdx or vmdk")
      ->check(CLI::IsMember({"raw", "qcow2", "vhd", "vhdx", "vmdk"}));
  restore->add_flag("--force", in.restore.force,
                    "Overwrite a device in use, or a file of another size");

  CLI::App* serve =
      add_verb(app, in, "serve", "Serve a recovery point's disk as NBD until interrupted",
               [&in](Context& c) { return run_serve(c, in.serve); });
  serve->add_option("point", in.serve.point, "Recovery point")->required();
  serve->add_option("--disk", in.serve.disk, "Which disk, from 0")->check(CLI::Range(0u, 63u));
  auto* socket = serve->add_option("--socket", in.serve.socket, "Unix socket to listen on");
  serve->add_option("--listen", in.serve.listen, "HOST:PORT to listen on")->excludes(socket);
  serve->add_option("--writable", in.serve.writable_overlay,
                    "Accept writes; keep them in this qcow2 file");
}

void add_recovery_verbs(CLI::App& app, Invocation& in) {
  RecoverArgs& r = in.recover;
  CLI::App* recover =
      add_verb(app, in, "recover", "Fail over: start the server from a recovery point, at once",
               [&in](Context& c) { return run_recover(c, in.recover); });
  recover->add_option("point", r.point, "Recovery point")->required();
  recover->add_option("--on", r.target, "Where: qemu (this machine) or ec2")
      ->required()
      ->check(CLI::IsMember({"qemu", "ec2"}));
  recover->add_option("--name", r.name, "A name for the instance");
  recover->add_option("--memory", r.memory, "Guest memory, e.g. 2G")->capture_default_str();
  recover->add_option("--cpus", r.cpus, "Guest CPUs")
      ->check(CLI::Range(1u, 255u))
      ->capture_default_str();
  recover->add_option("--forward", r.forwards,
                      "HOST:GUEST: a port here to a port of the guest; may be repeated");
  recover->add_option("--accel", r.accelerator, "auto, kvm or tcg")
      ->check(CLI::IsMember({"auto", "kvm", "tcg"}));
  recover->add_option("--display", r.display, "none or vnc")->check(CLI::IsMember({"none", "vnc"}));
  recover->add_option("--firmware", r.firmware, "auto, bios or uefi")
      ->check(CLI::IsMember({"auto", "bios", "uefi"}));
  recover->add_option("--disk-bus", r.disk_bus, "auto, virtio, nvme or sata")
      ->check(CLI::IsMember({"auto", "virtio", "nvme", "sata"}));
  recover->add_option("--wait-for", r.wait_for,
                      "Wait for tcp:PORT or http:PORT/path and time the first answer");
  recover->add_option("--wait-timeout", r.wait_timeout_s, "Give up waiting after so many seconds")
      ->capture_default_str();
  recover->add_flag("--hydrate", r.hydrate, "Copy the rest of the disks here in the background");
  recover->add_option("--hydrate-limit", r.hydrate_limit, "At most so many bytes a second");
  recover->add_flag("--isolated", r.isolated,
                    "A drill: the guest reaches nothing but the forwarded ports");
  add_ec2_options(*recover, r.ec2);

  CLI::App* instances = add_verb(app, in, "instances", "List recovered servers",
                                 [&in](Context& c) { return run_instances(c, in.instances); });
  instances->add_flag("--reap", in.instances.reap, "Remove drills in EC2 that are past their time");
  CLI::App* stop = add_verb(app, in, "stop", "Shut a recovered server down",
                            [&in](Context& c) { return run_stop(c, in.stop); });
  stop->add_option("instance", in.stop.instance, "Instance id or a unique prefix")->required();
  stop->add_flag("--force", in.stop.force, "Do not wait for the guest to shut down");
  stop->add_flag("--delete", in.stop.remove, "Remove its disks too: what the guest wrote is lost");
  CLI::App* resume =
      add_verb(app, in, "resume", "Bring a stopped or broken instance up again, with all it wrote",
               [&in](Context& c) { return run_resume(c, in.resume); });
  resume->add_option("instance", in.resume.instance, "Instance id or a unique prefix")->required();
  CLI::App* supervisor = add_verb(app, in, "instance-supervisor", "",
                                  [&in](Context& c) { return run_supervisor(c, in.supervisor); });
  supervisor->group("");  // started by recover and resume
  supervisor->add_option("--instance", in.supervisor.instance)->required();
  supervisor->add_option("--key-fd", in.supervisor.key_fd);
}

void add_prepare_verbs(CLI::App& app, Invocation& in) {
  PrepareArgs& p = in.prepare;
  CLI::App* prepare = add_verb(app, in, "prepare", "Make a recovery point able to start elsewhere",
                               [&in](Context& c) { return run_prepare(c, in.prepare); });
  prepare->add_option("point", p.point, "Recovery point")->required();
  prepare->add_option("--for", p.target, "ec2 or qemu")
      ->required()
      ->check(CLI::IsMember({"ec2", "qemu"}));
  prepare->add_flag("--report", p.report, "Also list what needed no change");
  prepare->add_flag("--dry-run", p.dry_run, "Find out everything, and keep nothing");
  prepare->add_flag("--again", p.anew, "Do not use what an earlier preparation made");
  prepare->add_option("--ssh-key", p.ssh_key_file, "File with a public key to admit as root");
  prepare->add_option("--first-boot", p.first_boot_file, "Script to run at the first start");
  prepare->add_option("--apply-to", p.apply_to,
                      "A restored disk to write the changes to; repeated, in order");
  CLI::App* unprepare =
      add_verb(app, in, "unprepare", "Take a preparation back on a server's disks",
               [&in](Context& c) { return run_unprepare(c, in.unprepare); });
  unprepare->group("");  // what a failback does by itself
  unprepare->add_option("--disk", in.unprepare.disks, "Image or device; repeated, in order")
      ->required();
}

void add_standby_verbs(CLI::App& app, Invocation& in) {
  StandbyArgs& s = in.standby;
  CLI::App* standby = app.add_subcommand(
      "standby", "Keep a server's newest recovery point in EC2, ready to be started");
  standby->require_subcommand(1);
  standby->fallthrough();
  CLI::App* refresh = add_verb(*standby, in, "refresh", "Bring the standby to the newest point",
                               [&in](Context& c) { return run_standby_refresh(c, in.standby); });
  refresh->add_option("--point", s.point, "Another recovery point than the newest");
  refresh->add_flag("--full", s.full, "Put every block again");
  refresh->add_flag("--no-prepare", s.no_prepare, "Leave the server's files as they are");
  refresh->add_option("--keep", s.keep, "Keep so many older standbys")->capture_default_str();
  CLI::App* status = add_verb(*standby, in, "status", "What the standby holds",
                              [&in](Context& c) { return run_standby_status(c, in.standby); });
  CLI::App* drop = add_verb(*standby, in, "drop", "Remove the standby and all that belongs to it",
                            [&in](Context& c) { return run_standby_drop(c, in.standby); });
  CLI::App* policy = app.add_subcommand("policy", "What credentials must be allowed to do");
  policy->require_subcommand(1);
  policy->fallthrough();
  CLI::App* print =
      add_verb(*policy, in, "print", "Print the IAM policy, and no more than it takes",
               [](Context& c) { return run_policy_print(c); });
  print->add_option("--for", in.policy.target, "What for: ec2")
      ->required()
      ->check(CLI::IsMember({"ec2"}));
  status->add_flag("--check", s.check, "Also ask EC2: is it there, and would the quota do?");
  status->add_option("--instance-type", s.instance_types, "What failover would start, for --check");
  for (CLI::App* verb : {refresh, status, drop}) {
    verb->add_option("--server", s.server, "The server's name")->required();
    add_cloud_options(*verb, s.cloud);
    add_quotas_option(*verb, s.cloud);
  }
}

void add_maintenance_verbs(CLI::App& app, Invocation& in) {
  CLI::App* verify = add_verb(app, in, "verify", "Check that every recovery point is whole",
                              [&in](Context& c) { return run_verify(c, in.verify); });
  verify->add_flag("--read-data", in.verify.read_data, "Also fetch, decrypt and check all data");
  CLI::App* key = app.add_subcommand("key", "Who can open the repository");
  key->require_subcommand(1);
  key->fallthrough();
  add_verb(*key, in, "list", "List key slots", [](Context& c) { return run_key_list(c); });
  CLI::App* add = add_verb(*key, in, "add", "Add a passphrase or a recovery code",
                           [&in](Context& c) { return run_key_add(c, in.key_add); });
  add->add_flag("--recovery-code", in.key_add.recovery_code,
                "Make a new recovery code instead of asking for a passphrase");
  add->add_option("--new-passphrase-file", in.key_add.new_passphrase_file,
                  "File with the new passphrase");
  add->add_option("--label", in.key_add.label, "Whose it is");
  CLI::App* remove = add_verb(*key, in, "remove", "Remove a key slot",
                              [&in](Context& c) { return run_key_remove(c, in.key_remove); });
  remove->add_option("slot", in.key_remove.slot, "The slot's name, from `key list`")->required();
  add_verb(app, in, "version", "Show the version", [](Context& c) { return run_version(c); });
  add_verb(app, in, "completion", "Print the completion script for bash", [&app](Context&) {
    std::fputs(bash_completion(app).c_str(), stdout);
    return ok_status();
  });
}

int report(const Context& context, const Error& error) {
  const int code = error.code() == Code::kCancelled ? kExitInterrupted : exit_code_of(error.code());
  if (context.options.progress == ProgressMode::kJson) {
    const Json line = {
        {"event", "error"}, {"code", code_name(error.code())}, {"message", error.message()}};
    std::fputs((line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n").c_str(), stderr);
  } else {
    std::fputs(fmt::format("reclo: {}\n", error.message()).c_str(), stderr);
  }
  return code;
}

}  // namespace

int run_app(int argc, char** argv, const CancelToken& cancel) {
  CLI::App app(
      "ReClo brings a failed server back: images of its disks, and the server running again in "
      "minutes.",
      "reclo");
  Invocation invocation;
  app.footer(kFooter);
  app.require_subcommand(1);
  app.fallthrough();
  add_global_options(app, invocation);
  add_backup_verbs(app, invocation);
  add_listing_verbs(app, invocation);
  add_restore_verbs(app, invocation);
  add_recovery_verbs(app, invocation);
  add_prepare_verbs(app, invocation);
  add_standby_verbs(app, invocation);
  add_home_verbs(app, invocation.home, invocation.run);
  add_maintenance_verbs(app, invocation);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // CLI11 says only that a verb is required, also when one was misspelt.
    const std::vector<std::string> unknown = app.remaining();
    if (app.get_subcommands().empty() && !unknown.empty()) {
      std::fputs(
          fmt::format("reclo: there is no verb '{}'; reclo --help lists them\n", unknown.front())
              .c_str(),
          stderr);
      return kExitUsage;
    }
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  if (app.count("--s3-path-style") > 0)
    invocation.global.store.s3_path_style = invocation.s3_path_style;
  if (invocation.global.verbose) set_log_level(LogLevel::kInfo);
  Context context{invocation.global, cancel, make_progress(invocation.global.progress)};
  const Status status = invocation.run(context);
  context.progress.reset();
  return status.ok() ? kExitOk : report(context, status.error());
}

}  // namespace reclo::cli
