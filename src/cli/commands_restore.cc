// restore, serve: a recovery point's disk as a file, a device, or a network block device.
#include <fmt/format.h>

#include "base/log.h"
#include "base/units.h"
#include "cli/commands.h"
#include "disk/block_sink.h"
#include "image/export_format.h"
#include "image/nbd_export.h"
#include "image/restore.h"
#include "image/writable_export.h"
#include "os/file.h"
#include "os/subprocess.h"
#include "repo/session.h"

namespace reclo::cli {
namespace {

Result<const repo::DiskRecord*> disk_of(const repo::FoundPoint& found, uint32_t index) {
  const auto& disks = found.point.record.disks;
  if (index < disks.size()) return &disks[index];
  return Error(Code::kNotFound,
               fmt::format("recovery point {} has {} disk(s), numbered from 0: there is no disk {}",
                           found.point.record.id.short_hex(), disks.size(), index));
}

image::NbdExportOptions export_options(const Context& context, const store::StoreOptions& store,
                                       const repo::FoundPoint& found, uint32_t disk) {
  image::NbdExportOptions options;
  options.store = store;
  options.machine = found.machine.id;
  options.point = found.point.record.id;
  options.disk_index = disk;
  options.cache_directory = os::join_path(context.options.state_directory, "cache");
  return options;
}

Status print_restored(const Context& context, const RestoreArgs& args,
                      const image::RestoreReport& report) {
  if (context.options.json) {
    Json damaged = Json::array();
    for (const image::DamagedRange& range : report.damaged)
      damaged.push_back({{"offset_bytes", range.range.offset_bytes},
                         {"length_bytes", range.range.size_bytes},
                         {"error", range.error.message()}});
    return print_json({{"to", args.to},
                       {"size_bytes", report.size_bytes},
                       {"written_bytes", report.written_bytes},
                       {"fetched_bytes", report.fetched_bytes},
                       {"skipped_bytes", report.skipped_bytes},
                       {"resumed_bytes", report.resumed_bytes},
                       {"duration_ms", static_cast<uint64_t>(report.duration_s * 1000)},
                       {"damaged", damaged}});
  }
  return print(fmt::format(
      "Restored {} to {}: {} written, {} fetched, {}\n", format_bytes(report.size_bytes), args.to,
      format_bytes(report.written_bytes), format_bytes(report.fetched_bytes),
      format_duration(std::chrono::milliseconds(static_cast<int64_t>(report.duration_s * 1000)))));
}

Status restore_raw(Context& context, const RestoreArgs& args, ReadablePoint& readable,
                   const repo::DiskRecord& disk) {
  RECLO_ASSIGN_OR_RETURN(crypto::SecretKey map_key,
                         readable.open.repository->map_key(readable.found.machine, readable.box));
  repo::SlotReader slots(*readable.open.store, readable.open.repository->id(),
                         readable.found.machine.id, std::move(map_key), std::move(readable.box));
  repo::MapReader maps(slots);
  disk::SinkOptions sink_options;
  sink_options.force = args.force;
  const bool exists = os::path_exists(args.to);
  RECLO_ASSIGN_OR_RETURN(const auto sink, disk::open_sink(args.to, disk.size_bytes, sink_options));
  image::RestoreOptions options;
  options.update = exists && !sink->starts_zeroed();
  if (!args.to.starts_with("/dev/")) options.journal_path = args.to + ".reclo-restore";
  const image::RestoreJob job{readable.found.point.record.id, args.disk, disk};
  RECLO_ASSIGN_OR_RETURN(
      const image::RestoreReport report,
      image::restore_disk(maps, job, *sink, options, *context.progress, context.cancel));
  RECLO_TRY(sink->finish());
  context.progress.reset();
  if (sink->dropped_bytes() > 0)
    log_warning("{} did not fit on {} and were left out, as --force asked",
                format_bytes(sink->dropped_bytes()), args.to);
  RECLO_TRY(print_restored(context, args, report));
  return image::damage_status(report);
}

Status restore_image(Context& context, const RestoreArgs& args, const ReadablePoint& readable,
                     const repo::DiskRecord& disk) {
  RECLO_ASSIGN_OR_RETURN(const store::StoreOptions store, store_options(context));
  image::ExportRequest request;
  request.source = export_options(context, store, readable.found, args.disk);
  request.target_path = args.to;
  RECLO_ASSIGN_OR_RETURN(request.format, image::parse_export_format(args.format));
  request.force = args.force;
  const Stopwatch watch;
  image::RestoreReport report;
  report.size_bytes = disk.size_bytes;
  RECLO_ASSIGN_OR_RETURN(
      report.written_bytes,
      image::export_disk(request, readable.box.secret_key, *context.progress, context.cancel));
  report.duration_s = watch.seconds();
  context.progress.reset();
  return print_restored(context, args, report);
}

std::string nbd_uri(const ServeArgs& args) {
  return args.listen.empty() ? "nbd+unix:///?socket=" + args.socket : "nbd://" + args.listen;
}

Status announce(const Context& context, const ServeArgs& args, const ReadablePoint& readable,
                uint64_t size_bytes) {
  if (context.options.json)
    return print_json({{"uri", nbd_uri(args)},
                       {"point", readable.found.point.record.id.hex()},
                       {"disk", args.disk},
                       {"size_bytes", size_bytes},
                       {"writable", !args.writable_overlay.empty()}});
  return print(fmt::format("Serving disk {} of {} ({}) at {}{}. Ctrl-C ends it.\n", args.disk,
                           readable.found.point.record.id.short_hex(), format_bytes(size_bytes),
                           nbd_uri(args), args.writable_overlay.empty() ? "" : ", writable"));
}

// A reader that goes on for hours pins its point, so that no collection pulls the disk away under
// it.
class ReaderPin {
 public:
  ReaderPin(const repo::Repository& repository, const repo::FoundPoint& found,
            const CancelToken& cancel)
      : repository_(repository), machine_(found.machine.id) {
    auto begun = repo::begin_reader_session(repository, machine_, found.point.record.id, cancel);
    if (begun.ok()) {
      session_ = *begun;
    } else {
      log_warning("the recovery point is not pinned while it is read: {}", begun.error().message());
    }
  }
  ~ReaderPin() {
    if (session_)
      ignore_error(repo::end_reader_session(repository_, machine_, *session_,
                                            CancelToken().with_timeout(std::chrono::seconds(10))),
                   "an open reader session is fenced when it expires");
  }
  ReaderPin(const ReaderPin&) = delete;
  ReaderPin& operator=(const ReaderPin&) = delete;

 private:
  const repo::Repository& repository_;
  const MachineId machine_;
  std::optional<SessionId> session_;
};

Status serve_writable(Context& context, const ServeArgs& args, const ReadablePoint& readable,
                      const image::NbdExportOptions& base) {
  image::WritableExportOptions options;
  options.base = base;
  options.overlay_path = args.writable_overlay;
  options.socket_path = args.socket;
  options.listen_address = args.listen;
  RECLO_ASSIGN_OR_RETURN(const auto server, image::WritableExport::start(
                                                options, readable.box.secret_key, context.cancel));
  RECLO_TRY(announce(context, args, readable, server->size_bytes()));
  return server->supervise(context.cancel);
}

Status serve_read_only(Context& context, const ServeArgs& args, const ReadablePoint& readable,
                       image::NbdExportOptions options) {
  options.socket_path = args.socket;
  options.listen_address = args.listen;
  RECLO_ASSIGN_OR_RETURN(image::NbdExport server,
                         image::start_nbd_export(options, readable.box.secret_key, context.cancel));
  RECLO_TRY(announce(context, args, readable, server.size_bytes));
  while (context.cancel.sleep_for(std::chrono::milliseconds(200)).ok()) {
    if (os::process_alive(server.pid, "nbdkit")) continue;
    log_warning("the server ended; starting it again");
    RECLO_ASSIGN_OR_RETURN(
        server, image::start_nbd_export(options, readable.box.secret_key, context.cancel));
  }
  image::stop_nbd_export(server.pid);
  return {};
}

}  // namespace

Status run_restore(Context& context, const RestoreArgs& args) {
  RECLO_ASSIGN_OR_RETURN(ReadablePoint readable, open_point(context, args.point));
  RECLO_ASSIGN_OR_RETURN(const repo::DiskRecord* disk, disk_of(readable.found, args.disk));
  const repo::DiskRecord record = *disk;
  const ReaderPin pin(*readable.open.repository, readable.found, context.cancel);
  return args.format == "raw" ? restore_raw(context, args, readable, record)
                              : restore_image(context, args, readable, record);
}

Status run_serve(Context& context, const ServeArgs& args) {
  if (args.socket.empty() == args.listen.empty())
    return Error(Code::kInvalidArgument, "give --socket PATH or --listen HOST:PORT");
  RECLO_ASSIGN_OR_RETURN(const ReadablePoint readable, open_point(context, args.point));
  RECLO_TRY(disk_of(readable.found, args.disk));
  RECLO_ASSIGN_OR_RETURN(const store::StoreOptions store, store_options(context));
  const image::NbdExportOptions options = export_options(context, store, readable.found, args.disk);
  const ReaderPin pin(*readable.open.repository, readable.found, context.cancel);
  return args.writable_overlay.empty() ? serve_read_only(context, args, readable, options)
                                       : serve_writable(context, args, readable, options);
}

}  // namespace reclo::cli
