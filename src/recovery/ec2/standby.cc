#include "recovery/ec2/standby.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/encoding.h"
#include "base/kill_point.h"
#include "base/log.h"
#include "disk/boot_layout.h"
#include "net/digest.h"
#include "os/random.h"
#include "recovery/ec2/device_name.h"

namespace reclo::recovery {
namespace {

std::string folder_of(const std::string& state_directory, const std::string& repository,
                      const std::string& machine) {
  return os::join_path(os::join_path(os::join_path(state_directory, "standby"), repository),
                       machine);
}

std::string client_token(const StandbyRecord& record, const Standby& standby, uint32_t disk) {
  const std::string text =
      fmt::format("standby/{}/{}/{}/{}/{}", record.keeper, record.machine.hex(),
                  standby.point.hex(), standby.attempt, disk);
  return to_hex(net::sha256(as_bytes(text)));
}

Result<StandbyRecord> read_record(const std::string& folder) {
  RECLO_ASSIGN_OR_RETURN(const Bytes text, os::read_file(os::join_path(folder, kStandbyRecordFile),
                                                         kStandbySizeBytesMax));
  return decode_standby(as_text(text));
}

}  // namespace

Result<StandbyKeeper> StandbyKeeper::open(cloud::EbsClient& ebs, cloud::Ec2Client& ec2,
                                          StandbyOptions options) {
  const std::string folder =
      folder_of(options.state_directory, options.repository, options.machine.hex());
  RECLO_TRY(os::make_directories(folder));
  auto lock = os::FileLock::acquire(os::join_path(folder, "lock"));
  if (!lock.ok()) {
    if (lock.error().code() != Code::kConflict) return std::move(lock).error();
    return Error(Code::kConflict,
                 fmt::format("another refresh of the standby of '{}' is running", options.server));
  }
  StandbyKeeper keeper(ebs, ec2, std::move(options), folder, std::move(lock).value());
  if (os::path_exists(os::join_path(folder, kStandbyRecordFile))) {
    RECLO_ASSIGN_OR_RETURN(keeper.record_, read_record(folder));
    if (keeper.record_.region != ec2.options().region)
      return Error(Code::kConflict,
                   fmt::format("the standby of '{}' is in the region {}: drop it there first, or "
                               "give that region",
                               keeper.options_.server, keeper.record_.region));
  }
  if (keeper.record_.keeper.empty()) keeper.record_.keeper = os::random_id<PointId>().short_hex();
  keeper.record_.server = keeper.options_.server;
  keeper.record_.machine = keeper.options_.machine;
  keeper.record_.region = ec2.options().region;
  return keeper;
}

Status StandbyKeeper::save() {
  return os::write_file_durably(os::join_path(folder_, kStandbyRecordFile),
                                as_bytes(encode_standby(record_)));
}

std::string StandbyKeeper::log_path(const cloud::SnapshotId& snapshot) const {
  return os::join_path(folder_, snapshot.text() + ".digests");
}

cloud::Tags StandbyKeeper::tags(const Standby& standby) const {
  return {{"Name", fmt::format("reclo standby of {}", record_.server)},
          {"reclo-repository", options_.repository},
          {kStandbyMachineTag, record_.machine.hex()},
          {"reclo-server", record_.server},
          {"reclo-point", standby.point.hex()},
          {"reclo-role", "standby"},
          {kStandbyKeeperTag, record_.keeper}};
}

// Goes on with the interrupted attempt when it is for this point and its snapshots still take
// blocks; else begins another one.
Status StandbyKeeper::begin_attempt(StandbySource& source, StandbyReport& report,
                                    const CancelToken& cancel) {
  bool lineage = record_.current && !options_.full;
  if (lineage) {
    RECLO_ASSIGN_OR_RETURN(lineage, source.knows(record_.current->point, cancel));
    if (!lineage)
      report.warnings.push_back(
          fmt::format("the last standby's recovery point {} is gone, so everything is put again",
                      record_.current->point.short_hex()));
  }
  if (record_.pending && record_.pending->point == source.point() &&
      record_.pending->overlay == source.overlay_id() && !options_.full) {
    bool usable = true;
    for (const StandbyDisk& disk : record_.pending->disks) {
      usable = usable && (lineage || !disk.parent || disk.completed);
      if (disk.snapshot.empty()) continue;
      const auto state = ec2_.snapshot(disk.snapshot, cancel);
      if (!state.ok() && state.error().code() != Code::kNotFound) return state.error();
      usable = usable && state.ok() && state->state != "error";
    }
    if (usable) {
      log_debug("continuing attempt {}", record_.pending->attempt);
      return {};
    }
    report.warnings.push_back(
        "the interrupted refresh cannot be continued (EC2 gave its snapshot up, or what it was "
        "compared with is gone): starting anew");
  }
  if (record_.pending) record_.old.push_back(*record_.pending);
  Standby next;
  next.point = source.point();
  next.point_time = source.point_time();
  next.attempt = ++record_.attempts;
  next.overlay = source.overlay_id();
  const std::vector<uint64_t> sizes = source.disk_sizes_bytes();
  for (uint32_t i = 0; i < sizes.size(); ++i) {
    StandbyDisk disk;
    disk.index = i;
    disk.size_bytes = sizes[i];
    disk.overlay_spans = block_spans(source.overlay_ranges(i));
    if (volume_size_gib(sizes[i]) > cloud::kEbsVolumeGibMax)
      return Error(Code::kUnsupported, fmt::format("disk {} has {}: an EBS volume holds 64 TiB", i,
                                                   format_bytes(sizes[i])));
    if (lineage && i < record_.current->disks.size() &&
        record_.current->disks[i].size_bytes <= sizes[i])
      disk.parent = record_.current->disks[i].snapshot;
    next.disks.push_back(std::move(disk));
  }
  record_.pending = std::move(next);
  RECLO_TRY(save());
  RECLO_KILL_POINT("standby.attempt_begun");
  return {};
}

// What is put: all data, or what changed since the parent, and wherever the parent or this one is
// not the point's own content.
Result<std::vector<BlockSpan>> StandbyKeeper::spans_of(StandbySource& source,
                                                       const StandbyDisk& disk,
                                                       const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const std::vector<disk::Range> ranges,
                         disk.parent
                             ? source.changed_since(record_.current->point, disk.index, cancel)
                             : source.data(disk.index, cancel));
  std::vector<disk::Range> all = ranges;
  for (const disk::Range& range : source.overlay_ranges(disk.index)) all.push_back(range);
  if (disk.parent)
    for (const BlockSpan& span : record_.current->disks.at(disk.index).overlay_spans) {
      const uint64_t begin = uint64_t{span.first} * cloud::kEbsBlockSizeBytes;
      if (begin < disk.size_bytes)
        all.push_back(
            {begin,
             std::min(uint64_t{span.end} * cloud::kEbsBlockSizeBytes, disk.size_bytes) - begin});
    }
  return block_spans(all);
}

Status StandbyKeeper::refresh_disk(StandbySource& source, size_t index, StandbyReport& report,
                                   ProgressSink& progress, const CancelToken& cancel) {
  StandbyDisk& disk = record_.pending->disks[index];
  if (disk.completed) return {};
  const bool wanted_child = disk.parent.has_value();
  RECLO_ASSIGN_OR_RETURN(std::vector<BlockSpan> spans, spans_of(source, disk, cancel));
  if (disk.snapshot.empty()) {
    cloud::StartSnapshot start;
    start.volume_size_gib = static_cast<uint32_t>(volume_size_gib(disk.size_bytes));
    start.parent = disk.parent;
    start.description = fmt::format("ReClo: disk {} of {} at {}", index, record_.server,
                                    format_time(record_.pending->point_time));
    start.tags = tags(*record_.pending);
    start.client_token = client_token(record_, *record_.pending, disk.index);
    auto started = ebs_.start(start, cancel);
    const bool lineage_lost = !started.ok() && disk.parent &&
                              (started.error().code() == Code::kNotFound ||
                               started.error().code() == Code::kInvalidArgument);
    if (lineage_lost) {
      log_warning("{}", started.error().message());
      disk.parent.reset();
      RECLO_ASSIGN_OR_RETURN(spans, spans_of(source, disk, cancel));
      start.parent.reset();
      // Another request than the first one, so another token.
      start.client_token = to_hex(net::sha256(as_bytes(start.client_token + "/whole")));
      started = ebs_.start(start, cancel);
    }
    RECLO_ASSIGN_OR_RETURN(disk.snapshot, std::move(started));
    RECLO_KILL_POINT("standby.snapshot_started");
    RECLO_TRY(save());
  }
  if (wanted_child && !disk.parent)
    report.warnings.push_back(fmt::format(
        "disk {}: the last standby's snapshot is gone, so all of it was put again", index));
  report.full = report.full || !disk.parent;

  SnapshotJob job;
  job.snapshot = disk.snapshot;
  job.spans = spans;
  job.disk_size_bytes = disk.size_bytes;
  job.leave_out_zeros = !disk.parent;
  job.log_path = log_path(disk.snapshot);
  job.threads = options_.threads;
  const ReadDisk read = [&](uint64_t offset, MutableByteSpan out, const CancelToken& token) {
    return source.read(disk.index, offset, out, token);
  };
  RECLO_ASSIGN_OR_RETURN(const SnapshotReport written,
                         write_snapshot(ebs_, job, read, progress, cancel));
  progress.note(fmt::format("disk {}: {} blocks put, waiting for {}", index, written.blocks_put,
                            disk.snapshot.text()));
  RECLO_TRY(ec2_.wait_for_snapshot(disk.snapshot, options_.completion_patience, cancel));
  RECLO_TRY(read_back(source, disk, spans, report, cancel));
  disk.completed = true;
  disk.blocks_put = written.blocks_put;
  report.blocks_put += written.blocks_put;
  report.blocks_resumed += written.blocks_resumed;
  RECLO_TRY(save());
  return os::remove_file(log_path(disk.snapshot));
}

// Some blocks, as EC2 has them, against the recovery point.
Status StandbyKeeper::read_back(StandbySource& source, const StandbyDisk& disk,
                                const std::vector<BlockSpan>& spans, StandbyReport& report,
                                const CancelToken& cancel) {
  const uint64_t blocks = count_blocks(spans);
  const uint64_t wanted = std::min<uint64_t>(options_.read_back_blocks, blocks);
  Bytes expected(cloud::kEbsBlockSizeBytes);
  for (uint64_t i = 0; i < wanted; ++i) {
    uint64_t nth = os::random_below(blocks);
    auto span = spans.begin();
    while (nth >= span->end - span->first) {
      nth -= span->end - span->first;
      ++span;
    }
    const uint32_t index = span->first + static_cast<uint32_t>(nth);
    const uint64_t at = uint64_t{index} * expected.size();
    const size_t inside = std::min<uint64_t>(expected.size(), disk.size_bytes - at);
    std::fill(expected.begin(), expected.end(), uint8_t{0});
    RECLO_TRY(source.read(disk.index, at, MutableByteSpan(expected).first(inside), cancel));
    RECLO_ASSIGN_OR_RETURN(const auto token, ebs_.find_block(disk.snapshot, index, cancel));
    Bytes found(expected.size(), 0);
    if (token) {
      RECLO_ASSIGN_OR_RETURN(found, ebs_.get_block(disk.snapshot, *token, cancel));
    }
    if (found != expected)
      return Error(Code::kCorruption,
                   fmt::format("block {} of snapshot {} is not what the recovery point holds",
                               index, disk.snapshot.text()));
    ++report.blocks_read_back;
  }
  return {};
}

Status StandbyKeeper::find_boot_mode(StandbySource& source, const CancelToken& cancel) {
  disk::Readable first;
  first.size_bytes = source.disk_sizes_bytes().at(0);
  first.read_at = [&](uint64_t offset, MutableByteSpan out) {
    return source.read(0, offset, out, cancel);
  };
  RECLO_ASSIGN_OR_RETURN(const disk::BootLayout layout, disk::find_boot_layout(first));
  if (!layout.bios_bootable && !layout.uefi_bootable)
    return Error(Code::kUnsupported,
                 fmt::format("the first disk of '{}' has no boot loader (no boot code in its first "
                             "sector, no EFI system partition): EC2 could not start it",
                             record_.server));
  record_.pending->boot_mode =
      layout.needs_uefi() ? cloud::BootMode::kUefi : cloud::BootMode::kBios;
  return {};
}

Status StandbyKeeper::register_image(const CancelToken& cancel) {
  Standby& pending = *record_.pending;
  if (!pending.image.empty()) return {};
  cloud::RegisterImage wanted;
  wanted.name = fmt::format("reclo-{}-{}-{}-{}", record_.machine.short_hex(),
                            pending.point.short_hex(), record_.keeper, pending.attempt);
  wanted.description =
      fmt::format("ReClo: {} at {}", record_.server, format_time(pending.point_time));
  wanted.boot_mode = pending.boot_mode;
  for (const StandbyDisk& disk : pending.disks)
    wanted.disks.push_back({device_name(disk.index), disk.snapshot,
                            static_cast<uint32_t>(volume_size_gib(disk.size_bytes)), 0});
  wanted.tags = tags(pending);
  auto image = ec2_.register_image(wanted, cancel);
  if (!image.ok() && image.error().code() == Code::kAlreadyExists) {
    // An earlier run registered it and died before it could note so.
    RECLO_ASSIGN_OR_RETURN(const auto found, ec2_.images({{"name", {wanted.name}}}, cancel));
    if (found.empty()) return std::move(image).error();
    image = found.front().id;
  }
  RECLO_ASSIGN_OR_RETURN(pending.image, std::move(image));
  RECLO_KILL_POINT("standby.image_registered");
  return {};
}

Result<StandbyReport> StandbyKeeper::refresh(StandbySource& source, ProgressSink& progress,
                                             const CancelToken& cancel) {
  const Stopwatch watch;
  StandbyReport report;
  if (record_.current && record_.current->point == source.point() &&
      record_.current->overlay == source.overlay_id() && !options_.full) {
    report.unchanged = true;
  } else {
    RECLO_TRY(begin_attempt(source, report, cancel));
    RECLO_TRY(find_boot_mode(source, cancel));
    for (size_t i = 0; i < record_.pending->disks.size(); ++i)
      RECLO_TRY(refresh_disk(source, i, report, progress, cancel));
    RECLO_TRY(register_image(cancel));
    Standby done = *std::move(record_.pending);
    done.refreshed_at = wall_now();
    done.duration_ms = static_cast<int64_t>(watch.seconds() * 1000);
    record_.pending.reset();
    if (record_.current) record_.old.push_back(*std::move(record_.current));
    record_.current = std::move(done);
    RECLO_TRY(save());
    RECLO_KILL_POINT("standby.current");
  }
  report.standby = *record_.current;
  // The new standby stands: what goes wrong with the old ones is said and tried again next time.
  for (const Status& cleaned :
       {remove_old(report.warnings, cancel), remove_strangers(record_.keeper, cancel)})
    if (!cleaned.ok()) report.warnings.push_back(cleaned.error().message());
  return report;
}

Result<std::optional<StandbyRecord>> load_standby(const std::string& state_directory,
                                                  const std::string& repository,
                                                  const MachineId& machine) {
  const std::string folder = folder_of(state_directory, repository, machine.hex());
  if (!os::path_exists(os::join_path(folder, kStandbyRecordFile)))
    return std::optional<StandbyRecord>();
  RECLO_ASSIGN_OR_RETURN(StandbyRecord record, read_record(folder));
  return std::optional<StandbyRecord>(std::move(record));
}

}  // namespace reclo::recovery
