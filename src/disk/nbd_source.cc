#include "disk/nbd_source.h"

#include <fmt/format.h>
#include <libnbd.h>

#include <algorithm>
#include <cerrno>
#include <future>

#include "base/units.h"

namespace reclo::disk {
namespace {

constexpr std::chrono::seconds kStartTimeout{30};
constexpr uint64_t kReadSizeBytesMax = 8 * kMiB;  // qemu-nbd refuses more than 32 MiB
constexpr uint64_t kStatusSizeBytesMax = kGiB;    // a block status request has 32 bits
constexpr size_t kRangesMax = size_t{1} << 20;    // of one data_ranges call

// libnbd's last error on this thread.
std::string nbd_words() {
  const char* words = nbd_get_error();
  return words != nullptr ? words : "no reason given";
}

struct ExtentCollector {
  std::vector<Range>* out;
  uint64_t at = 0;
  uint64_t end = 0;
};

int collect_extents(void* user_data, const char* context, uint64_t /*offset*/, uint32_t* entries,
                    size_t entry_count, int* /*error*/) {
  auto& collector = *static_cast<ExtentCollector*>(user_data);
  if (std::string_view(context) != LIBNBD_CONTEXT_BASE_ALLOCATION) return 0;
  for (size_t i = 0; i + 1 < entry_count && collector.at < collector.end; i += 2) {
    const uint64_t size_bytes = std::min<uint64_t>(entries[i], collector.end - collector.at);
    const bool reads_as_zero = (entries[i + 1] & LIBNBD_STATE_ZERO) != 0;
    std::vector<Range>& out = *collector.out;
    if (!reads_as_zero && size_bytes > 0) {
      if (!out.empty() && out.back().end_bytes() == collector.at) {
        out.back().size_bytes += size_bytes;
      } else {
        out.push_back({collector.at, size_bytes});
      }
    }
    collector.at += size_bytes;
  }
  return 0;
}

}  // namespace

void NbdSource::CloseHandle::operator()(nbd_handle* handle) const { nbd_close(handle); }

NbdSource::NbdSource(std::string path, std::string format, os::TempDir folder)
    : path_(std::move(path)), format_(std::move(format)), folder_(std::move(folder)) {}

Result<std::unique_ptr<NbdSource>> NbdSource::open(const std::string& real_path,
                                                   const std::string& shown_path,
                                                   const std::string& format,
                                                   const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(os::TempDir folder, os::TempDir::create("reclo-nbd-"));
  std::unique_ptr<NbdSource> source(new NbdSource(shown_path, format, std::move(folder)));
  RECLO_TRY(source->start_server(real_path, cancel));
  RECLO_TRY(source->connect_first(cancel));
  return source;
}

NbdSource::~NbdSource() {
  for (Handle& handle : idle_) {
    nbd_shutdown(handle.get(), 0);  // a server that is gone already is as good
    handle.reset();
  }
  if (server_) server_->terminate(std::chrono::seconds(5));
}

Status NbdSource::start_server(const std::string& real_path, const CancelToken& cancel) {
  RECLO_TRY(cancel.check());
  os::SpawnOptions options;
  options.argv = {"qemu-nbd",
                  "--read-only",
                  "--persistent",
                  fmt::format("--shared={}", kNbdConnectionsMax),
                  "--format=" + format_,
                  "--socket=" + os::join_path(folder_.path(), "nbd.sock"),
                  real_path};
  options.stdout_path = os::join_path(folder_.path(), "log");
  options.stderr_path = options.stdout_path;
  options.die_with_parent = true;
  std::promise<Status> started;
  parent_thread_.run([&] {
    auto child = os::Subprocess::start(options);
    if (child.ok()) server_ = std::move(child).value();
    started.set_value(child.ok() ? Status() : Status(child.error()));
  });
  return started.get_future().get();
}

Status NbdSource::connect_first(const CancelToken& cancel) {
  const CancelToken limited = cancel.with_timeout(kStartTimeout);
  for (;;) {
    if (server_->poll()) {
      const std::string log = server_log();
      const bool in_use = log.find("\" lock") != std::string::npos;
      return Error(
          in_use ? Code::kConflict : Code::kUnsupported,
          fmt::format("{} cannot be opened as {}{}: {}", path_, format_,
                      in_use ? " because another program uses it (a running machine?)" : "", log));
    }
    if (os::path_exists(os::join_path(folder_.path(), "nbd.sock"))) {
      auto handle = connect();
      if (handle.ok()) {
        size_bytes_ = static_cast<uint64_t>(std::max<int64_t>(nbd_get_size(handle->get()), 0));
        can_tell_holes_ = nbd_can_meta_context(handle->get(), LIBNBD_CONTEXT_BASE_ALLOCATION) == 1;
        ++open_count_;
        give_back(std::move(handle).value(), true);
        break;
      }
    }
    RECLO_TRY_WITH(limited.sleep_for(std::chrono::milliseconds(5)),
                   fmt::format("start qemu-nbd for {}", path_));
  }
  if (size_bytes_ == 0) return Error(Code::kInvalidArgument, path_ + " holds an empty disk");
  return {};
}

Result<NbdSource::Handle> NbdSource::connect() const {
  Handle handle(nbd_create());
  const std::string socket = os::join_path(folder_.path(), "nbd.sock");
  // A VHDX export asks for whole 512-byte blocks. qemu-nbd itself serves any byte range; only
  // libnbd would refuse to ask, and the readers of partition tables ask for a few bytes.
  if (!handle ||
      nbd_set_strict_mode(
          handle.get(), nbd_get_strict_mode(handle.get()) & ~uint32_t{LIBNBD_STRICT_ALIGN}) != 0 ||
      nbd_add_meta_context(handle.get(), LIBNBD_CONTEXT_BASE_ALLOCATION) != 0 ||
      nbd_connect_unix(handle.get(), socket.c_str()) != 0)
    return Error(Code::kIo, fmt::format("connect to qemu-nbd for {}: {}", path_, nbd_words()));
  return handle;
}

Result<NbdSource::Handle> NbdSource::borrow() {
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !idle_.empty() || open_count_ < kNbdConnectionsMax; });
    if (!idle_.empty()) {
      Handle handle = std::move(idle_.back());
      idle_.pop_back();
      return handle;
    }
    ++open_count_;
  }
  auto handle = connect();
  if (!handle.ok()) give_back(nullptr, false);
  return handle;
}

void NbdSource::give_back(Handle handle, bool usable) {
  const std::lock_guard lock(mutex_);
  if (usable) {
    idle_.push_back(std::move(handle));
  } else {
    --open_count_;
  }
  changed_.notify_one();
}

Error NbdSource::failed(uint64_t offset_bytes, std::string_view what) const {
  const std::string log = server_log();
  return Error(Code::kIo, fmt::format("{}: {} at byte {}: {}{}{}", path_, what, offset_bytes,
                                      nbd_words(), log.empty() ? "" : "; qemu-nbd: ", log));
}

std::string NbdSource::server_log() const {
  const auto content = os::read_file(os::join_path(folder_.path(), "log"), 64 * kKiB);
  if (!content.ok()) return "";
  std::string text(as_text(*content));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  constexpr size_t kShownBytesMax = 500;
  return text.size() > kShownBytesMax ? text.substr(text.size() - kShownBytesMax) : text;
}

Status NbdSource::read_at(uint64_t offset_bytes, MutableByteSpan out) {
  if (offset_bytes > size_bytes_ || out.size() > size_bytes_ - offset_bytes)
    return Error(Code::kInvalidArgument, fmt::format("{}: {} bytes at {} are past its end ({})",
                                                     path_, out.size(), offset_bytes, size_bytes_));
  RECLO_ASSIGN_OR_RETURN(Handle handle, borrow());
  while (!out.empty()) {
    const size_t part = std::min<uint64_t>(out.size(), kReadSizeBytesMax);
    if (nbd_pread(handle.get(), out.data(), part, offset_bytes, 0) != 0) {
      Error error = failed(offset_bytes, "read");
      const bool usable = nbd_aio_is_ready(handle.get()) == 1;
      give_back(std::move(handle), usable);
      return error;
    }
    out = out.subspan(part);
    offset_bytes += part;
  }
  give_back(std::move(handle), true);
  return {};
}

Result<std::vector<Range>> NbdSource::data_ranges(Range range) {
  std::vector<Range> out;
  ExtentCollector collector{&out, range.offset_bytes, std::min(range.end_bytes(), size_bytes_)};
  if (!can_tell_holes_) {
    if (collector.at < collector.end) out.push_back({collector.at, collector.end - collector.at});
    return out;
  }
  RECLO_ASSIGN_OR_RETURN(Handle handle, borrow());
  while (collector.at < collector.end) {
    const uint64_t before = collector.at;
    const uint64_t count = std::min(collector.end - collector.at, kStatusSizeBytesMax);
    const nbd_extent_callback callback = {
        .callback = collect_extents, .user_data = &collector, .free = nullptr};
    if (nbd_block_status(handle.get(), count, before, callback, 0) != 0 || collector.at == before) {
      Error error = failed(before, "ask which blocks are allocated");
      const bool usable = nbd_aio_is_ready(handle.get()) == 1;
      give_back(std::move(handle), usable);
      return error;
    }
    if (out.size() > kRangesMax) {
      // So many that they are not worth knowing one by one.
      out.resize(kRangesMax);
      out.back().size_bytes = collector.end - out.back().offset_bytes;
      break;
    }
  }
  give_back(std::move(handle), true);
  return out;
}

}  // namespace reclo::disk
