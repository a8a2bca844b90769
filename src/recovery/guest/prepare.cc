#include "recovery/guest/prepare.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/encoding.h"
#include "base/kill_point.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/version.h"
#include "crypto/hash.h"
#include "disk/boot_layout.h"
#include "image/nbd_export.h"
#include "os/file.h"
#include "recovery/guest/guestfs_session.h"
#include "recovery/guest/read_log.h"
#include "recovery/overlay.h"

namespace reclo::recovery {
namespace {

constexpr uint64_t kReadLogSizeBytesMax = 512 * kMiB;

std::string target_name(PrepareTarget target) {
  return target == PrepareTarget::kEc2 ? "ec2" : "qemu";
}

std::string options_hash(const PrepareChoices& choices) {
  const std::string text = fmt::format("{}\n{}\n{}\n{}", target_name(choices.target),
                                       choices.server, choices.ssh_key, choices.first_boot_script);
  return to_hex(crypto::sha256(as_bytes(text))).substr(0, 16);
}

// The exports of one preparation; they end with it.
class Exports {
 public:
  explicit Exports(std::string folder) : folder_(std::move(folder)) {}
  ~Exports() {
    for (const pid_t pid : pids_) image::stop_nbd_export(pid);
  }

  Status start(const PrepareRequest& request, const PointId& point, const crypto::SecretKey& box,
               uint32_t disk, const CancelToken& cancel) {
    image::NbdExportOptions options;
    options.store = request.store;
    options.machine = request.machine;
    options.point = point;
    options.disk_index = disk;
    options.socket_path = socket(disk);
    options.log_path = os::join_path(folder_, "exports.log");
    options.read_log_path = read_log(disk);
    if (request.store.url.starts_with("s3://"))
      options.cache_directory = os::join_path(folder_, fmt::format("cache-{}", disk));
    RECLO_ASSIGN_OR_RETURN(const image::NbdExport running,
                           image::start_nbd_export(options, box, cancel));
    pids_.push_back(running.pid);
    return {};
  }
  std::string socket(uint32_t disk) const {
    return os::join_path(folder_, fmt::format("{}.sock", disk));
  }
  std::string read_log(uint32_t disk) const {
    return os::join_path(folder_, fmt::format("reads-{}.log", disk));
  }
  std::string overlay(uint32_t disk) const {
    return os::join_path(folder_, fmt::format("{}.qcow2", disk));
  }

 private:
  std::string folder_;
  std::vector<pid_t> pids_;
};

class Preparation {
 public:
  Preparation(const PrepareRequest& request, StandbySource& base, const crypto::SecretKey& box,
              ProgressSink& progress, const CancelToken& cancel)
      : request_(request),
        base_(base),
        box_(box),
        progress_(progress),
        cancel_(cancel),
        choices_(request.choices),
        folder_(os::join_path(
            os::join_path(os::join_path(request.state_directory, "prepared"), request.repository),
            request.machine.hex())) {
    choices_.point = base.point().hex();
    choices_.made = format_time(wall_now());
    path_ = os::join_path(folder_, fmt::format("{}-{}.overlay", target_name(choices_.target),
                                               options_hash(choices_)));
  }

  Result<PrepareResult> run() {
    RECLO_TRY(os::make_directories(folder_));
    auto lock = os::FileLock::acquire(os::join_path(folder_, "lock"));
    if (!lock.ok()) {
      if (lock.error().code() != Code::kConflict) return std::move(lock).error();
      return Error(Code::kConflict, "another preparation of this server is running");
    }
    if (!request_.anew && !request_.dry_run && os::path_exists(path_)) {
      RECLO_ASSIGN_OR_RETURN(PrepareResult cached, try_cached());
      if (cached.cached) return cached;
    }
    return prepare();
  }

 private:
  Result<PrepareResult> try_cached() {
    PrepareResult result;
    result.path = path_;
    auto overlay = PreparedOverlay::open(path_, box_);
    if (!overlay.ok()) {
      if (overlay.error().code() != Code::kCorruption &&
          overlay.error().code() != Code::kUnsupported)
        return std::move(overlay).error();
      log_warning("{}: it is made anew", overlay.error().message());
      return result;
    }
    const PreparedRecord& record = (*overlay)->record();
    if (record.program != kProgramVersion || record.disk_sizes_bytes != base_.disk_sizes_bytes())
      return result;
    RECLO_ASSIGN_OR_RETURN(const bool same, still_fits(record));
    if (!same) return result;
    result.record = record;
    result.overlay = std::move(overlay).value();
    result.cached = true;
    return result;
  }

  // Nothing that the preparation read or lays over is different in this point.
  Result<bool> still_fits(const PreparedRecord& record) {
    if (record.point == choices_.point) return true;
    const auto point = PointId::parse(record.point);
    if (!point.ok()) return false;
    RECLO_ASSIGN_OR_RETURN(const bool known, base_.knows(*point, cancel_));
    if (!known) return false;
    for (uint32_t disk = 0; disk < record.disk_sizes_bytes.size(); ++disk) {
      RECLO_ASSIGN_OR_RETURN(auto changed, base_.changed_since(*point, disk, cancel_));
      std::vector<disk::Range> bound;
      for (const auto* list : {&record.reads, &record.runs})
        for (const PreparedRun& run : *list)
          if (run.disk == disk) bound.push_back(run.range);
      const uint64_t size = record.disk_sizes_bytes[disk];
      if (ranges_overlap(merge_ranges(std::move(changed), size),
                         merge_ranges(std::move(bound), size)))
        return false;
    }
    return true;
  }

  Result<PrepareResult> prepare() {
    PrepareResult result;
    result.path = path_;
    PreparedRecord& record = result.record;
    record.point = choices_.point;
    record.target = target_name(choices_.target);
    record.options = options_hash(choices_);
    record.program = kProgramVersion;
    record.made = choices_.made;
    record.disk_sizes_bytes = base_.disk_sizes_bytes();

    // Left by one that was killed: it may hold clear text.
    const std::string work_path = os::join_path(folder_, "work");
    RECLO_TRY(os::remove_tree(work_path));
    RECLO_TRY(os::make_directories(work_path));
    const Status changed = change(work_path, record);
    const Status kept = changed.ok() && record.verdict.empty() && !request_.dry_run
                            ? keep(work_path, record)
                            : Status();
    RECLO_TRY(os::remove_tree(work_path));
    RECLO_TRY(changed);
    RECLO_TRY(kept);
    if (record.verdict.empty() && !request_.dry_run) {
      RECLO_ASSIGN_OR_RETURN(result.overlay, PreparedOverlay::open(path_, box_));
    }
    return result;
  }

  Status change(const std::string& work, PreparedRecord& record) {
    Exports exports(work);
    std::vector<SessionDisk> disks;
    for (uint32_t disk = 0; disk < record.disk_sizes_bytes.size(); ++disk) {
      RECLO_TRY(exports.start(request_, base_.point(), box_, disk, cancel_));
      RECLO_TRY(make_overlay(exports.overlay(disk), exports.socket(disk),
                             record.disk_sizes_bytes[disk], cancel_));
      disks.push_back({exports.overlay(disk), "qcow2"});
    }
    progress_.note("looking into the server's disks with libguestfs");
    RECLO_ASSIGN_OR_RETURN(const auto session, GuestfsSession::start(disks, cancel_));
    auto facts = session->open_guest();
    if (!facts.ok()) {
      if (facts.error().code() != Code::kUnsupported) return std::move(facts).error();
      record.verdict = facts.error().message();
      return {};
    }
    RECLO_TRY(find_boot_layout(*facts));
    record.system = facts->system;
    RECLO_ASSIGN_OR_RETURN(GuestChanges changes, GuestChanges::open(session->files()));
    RECLO_ASSIGN_OR_RETURN(record.fixes, run_fixes({session->files(), changes, *facts, choices_}));
    record.notes = facts->notes;
    record.verdict = blockers(record.fixes);
    RECLO_TRY(session->finish());
    for (uint32_t disk = 0; disk < record.disk_sizes_bytes.size(); ++disk)
      RECLO_TRY(note_reads(exports.read_log(disk), disk, record));
    return {};
  }

  Status find_boot_layout(GuestFacts& facts) {
    disk::Readable first;
    first.size_bytes = base_.disk_sizes_bytes().at(0);
    first.read_at = [&](uint64_t offset, MutableByteSpan out) {
      return base_.read(0, offset, out, cancel_);
    };
    RECLO_ASSIGN_OR_RETURN(const disk::BootLayout layout, disk::find_boot_layout(first));
    facts.has_boot_loader = layout.bios_bootable || layout.uefi_bootable;
    facts.needs_uefi = layout.needs_uefi();
    return {};
  }

  Status note_reads(const std::string& log, uint32_t disk, PreparedRecord& record) {
    RECLO_ASSIGN_OR_RETURN(const Bytes text, os::read_file(log, kReadLogSizeBytesMax));
    std::vector<disk::Range> ranges;
    add_reads(as_text(text), ranges);
    for (const disk::Range& range : merge_ranges(std::move(ranges), record.disk_sizes_bytes[disk]))
      record.reads.push_back({disk, range});
    return {};
  }

  // Writes the pages in which the overlays differ from the point.
  Status keep(const std::string& work, PreparedRecord& record) {
    const Exports names(work);
    RECLO_ASSIGN_OR_RETURN(PreparedWriter writer, PreparedWriter::create(path_, box_));
    Bytes before;
    for (uint32_t disk = 0; disk < record.disk_sizes_bytes.size(); ++disk) {
      const uint64_t size = record.disk_sizes_bytes[disk];
      const auto take = [&](uint64_t offset, ByteSpan cluster) -> Status {
        RECLO_TRY(cancel_.check());
        cluster = cluster.first(std::min<uint64_t>(cluster.size(), size - offset));
        before.resize(cluster.size());
        RECLO_TRY(base_.read(disk, offset, before, cancel_));
        return add_changed_pages(writer, disk, offset, before, cluster);
      };
      RECLO_TRY(for_each_held_cluster(names.overlay(disk), take));
    }
    RECLO_KILL_POINT("prepare.pages_written");
    return writer.finish(record);
  }

  static Status add_changed_pages(PreparedWriter& writer, uint32_t disk, uint64_t offset,
                                  ByteSpan before, ByteSpan after) {
    for (size_t at = 0; at < after.size();) {
      size_t end = at;
      while (end < after.size()) {
        const size_t page = std::min<size_t>(kPageSizeBytes, after.size() - end);
        if (std::equal(after.begin() + static_cast<ptrdiff_t>(end),
                       after.begin() + static_cast<ptrdiff_t>(end + page),
                       before.begin() + static_cast<ptrdiff_t>(end)))
          break;
        end += page;
      }
      if (end > at) RECLO_TRY(writer.add(disk, offset + at, after.subspan(at, end - at)));
      at = end + std::min<size_t>(kPageSizeBytes, after.size() - end);
    }
    return {};
  }

  const PrepareRequest& request_;
  StandbySource& base_;
  const crypto::SecretKey& box_;
  ProgressSink& progress_;
  const CancelToken& cancel_;
  PrepareChoices choices_;
  std::string folder_;
  std::string path_;
};

}  // namespace

Result<PrepareResult> prepare_point(const PrepareRequest& request, StandbySource& base,
                                    const crypto::SecretKey& box, ProgressSink& progress,
                                    const CancelToken& cancel) {
  return Preparation(request, base, box, progress, cancel).run();
}

Result<UnprepareReport> unprepare_guest(const std::vector<std::string>& disks,
                                        const CancelToken& cancel) {
  std::vector<SessionDisk> opened;
  for (const std::string& path : disks) {
    RECLO_ASSIGN_OR_RETURN(const os::Fd fd, os::open_file(path, os::OpenMode::kRead));
    Bytes magic(4);
    RECLO_TRY_WITH(os::read_at(fd, 0, magic), path);
    opened.push_back({path, as_text(magic) == std::string_view("QFI\xfb", 4) ? "qcow2" : "raw"});
  }
  RECLO_ASSIGN_OR_RETURN(const auto session, GuestfsSession::start(opened, cancel));
  RECLO_ASSIGN_OR_RETURN(const GuestFacts facts, session->open_guest());
  RECLO_ASSIGN_OR_RETURN(const UnprepareReport report, take_back_changes(session->files()));
  RECLO_TRY(session->finish());
  return report;
}

}  // namespace reclo::recovery
