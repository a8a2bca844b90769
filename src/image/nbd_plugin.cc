// reclo-nbdkit-plugin.so: an nbdkit plugin (API version 2) that serves one disk of one recovery
// point, read-only. It is started by start_nbd_export(), which passes the specification in an
// inherited memory file: nbdkit reclo-nbdkit-plugin.so spec-fd=N.
//
// nbdkit calls in from many threads at once; the image below is made for that.
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <string>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "image/image_stack.h"
#include "os/file.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

namespace {

using namespace reclo;

constexpr size_t kRunsPerAnswerMax = 8192;

struct State {
  std::optional<image::ImageSpec> spec;
  std::unique_ptr<image::ImageStack> stack;
  std::stop_source stop;
};
State* state = nullptr;

// start_nbd_export() looks for the last such line in the log.
void report(const Error& error) {
  nbdkit_error("reclo: [%s] %s", std::string(code_name(error.code())).c_str(),
               error.message().c_str());
}

int errno_of(const Error& error) {
  switch (error.code()) {
    case Code::kInvalidArgument:
      return EINVAL;
    case Code::kTimeout:
      return ETIMEDOUT;
    case Code::kCancelled:
      return ESHUTDOWN;
    case Code::kResourceExhausted:
      return ENOMEM;
    default:
      return EIO;
  }
}

void load() { state = new State; }

void unload() {
  delete state;
  state = nullptr;
}

// Reads the whole memory file, wipes it and closes it.
Result<image::ImageSpec> take_spec(int fd_number) {
  const os::Fd fd(fd_number);
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return Error::from_errno(errno, "the spec-fd descriptor");
  if (info.st_size <= 0 || static_cast<uint64_t>(info.st_size) > image::kImageSpecSizeBytesMax)
    return Error(Code::kInvalidArgument, "the spec-fd file has no sane length");
  Bytes text(static_cast<size_t>(info.st_size));
  RECLO_TRY(os::read_at(fd, 0, text));
  auto spec = image::decode_image_spec(text);
  crypto::wipe(text);
  ignore_error(os::write_at(fd, 0, text), "it vanishes with its last descriptor anyway");
  return spec;
}

int config(const char* key, const char* value) {
  if (std::string_view(key) == "outlive-parent") {
    // nbdkit 1.32 has asked the kernel to end it with its parent, whatever its options. Still in
    // time: our parent waits for the first answer.
    ::prctl(PR_SET_PDEATHSIG, 0);
    return 0;
  }
  if (std::string_view(key) != "spec-fd") {
    nbdkit_error("unknown parameter '%s': reclo starts this plugin itself", key);
    return -1;
  }
  int fd_number = -1;
  const char* end = value + std::strlen(value);
  const auto [parsed_to, failure] = std::from_chars(value, end, fd_number);
  if (failure != std::errc() || parsed_to != end || fd_number < 3) {
    nbdkit_error("spec-fd is not a descriptor's number");
    return -1;
  }
  auto spec = take_spec(fd_number);
  if (!spec.ok()) {
    report(spec.error());
    return -1;
  }
  state->spec = std::move(spec).value();
  return 0;
}

int config_complete() {
  if (state->spec) return 0;
  nbdkit_error("spec-fd is missing: reclo starts this plugin itself");
  return -1;
}

// Threads may be made from here on.
int after_fork() {
  auto stack = image::ImageStack::open(*state->spec, CancelToken(state->stop.get_token()));
  state->spec.reset();  // and with it this copy of the key
  if (!stack.ok()) {
    report(stack.error());
    return -1;
  }
  state->stack = std::move(stack).value();
  return 0;
}

// Called when the server ends, after the last request.
void cleanup() {
  state->stop.request_stop();
  state->stack.reset();
}

void* open_connection(int /*readonly*/) { return NBDKIT_HANDLE_NOT_NEEDED; }

int64_t get_size(void* /*handle*/) { return static_cast<int64_t>(state->stack->size_bytes()); }
int answer_no(void* /*handle*/) { return 0; }
int answer_yes(void* /*handle*/) { return 1; }
int can_cache(void* /*handle*/) { return NBDKIT_CACHE_NATIVE; }

int block_size(void* /*handle*/, uint32_t* minimum, uint32_t* preferred, uint32_t* maximum) {
  *minimum = 1;
  *preferred = kPageSizeBytes;
  *maximum = 32 * kMiB;
  return 0;
}

int fail(const Error& error) {
  report(error);
  nbdkit_set_error(errno_of(error));
  return -1;
}

int read(void* /*handle*/, void* buffer, uint32_t count, uint64_t offset, uint32_t /*flags*/) {
  const Status status = state->stack->read_at(offset, {static_cast<uint8_t*>(buffer), count},
                                              CancelToken(state->stop.get_token()));
  return status.ok() ? 0 : fail(status.error());
}

int extents(void* /*handle*/, uint32_t count, uint64_t offset, uint32_t flags,
            nbdkit_extents* out) {
  const size_t runs_max = (flags & NBDKIT_FLAG_REQ_ONE) != 0 ? 1 : kRunsPerAnswerMax;
  const auto runs =
      state->stack->image().runs({offset, count}, runs_max, CancelToken(state->stop.get_token()));
  if (!runs.ok()) return fail(runs.error());
  for (const image::Run& run : *runs) {
    const uint32_t type = run.is_data ? 0 : NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO;
    if (nbdkit_add_extent(out, run.range.offset_bytes, run.range.size_bytes, type) != 0) return -1;
  }
  return 0;
}

// NBD_CMD_CACHE: a client says what it will want soon.
int cache(void* /*handle*/, uint32_t count, uint64_t offset, uint32_t /*flags*/) {
  const Status status =
      state->stack->image().warm({offset, count}, CancelToken(state->stop.get_token()));
  return status.ok() ? 0 : fail(status.error());
}

nbdkit_plugin make_plugin() {
  nbdkit_plugin plugin{};
  plugin.name = "reclo";
  plugin.longname = "ReClo recovery point";
  plugin.description = "serves a disk of a recovery point, read-only";
  plugin.config_help = "spec-fd=N  (required) descriptor of the specification; reclo passes it";
  plugin.load = load;
  plugin.unload = unload;
  plugin.config = config;
  plugin.config_complete = config_complete;
  plugin.after_fork = after_fork;
  plugin.cleanup = cleanup;
  plugin.open = open_connection;
  plugin.get_size = get_size;
  plugin.can_write = answer_no;
  plugin.can_flush = answer_no;
  plugin.is_rotational = answer_no;
  plugin.can_multi_conn = answer_yes;
  plugin.can_extents = answer_yes;
  plugin.can_cache = can_cache;
  plugin.block_size = block_size;
  plugin.pread = read;
  plugin.extents = extents;
  plugin.cache = cache;
  return plugin;
}

nbdkit_plugin plugin = make_plugin();

}  // namespace

NBDKIT_REGISTER_PLUGIN(plugin)
