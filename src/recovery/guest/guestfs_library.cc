#include "recovery/guest/guestfs_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

namespace reclo::recovery {
namespace {

Result<GuestfsLibrary> load() {
  void* const handle = ::dlopen("libguestfs.so.0", RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr)
    return Error(Code::kNotFound,
                 "libguestfs is not installed, which changes the server's files safely: install "
                 "the package libguestfs0");
  GuestfsLibrary out;
#define RECLO_GUESTFS_LOAD(name)                                                      \
  out.name = reinterpret_cast<decltype(out.name)>(::dlsym(handle, "guestfs_" #name)); \
  if (out.name == nullptr)                                                            \
    return Error(Code::kNotFound, "this libguestfs is too old: it has no guestfs_" #name);
  RECLO_GUESTFS_FUNCTIONS(RECLO_GUESTFS_LOAD)
#undef RECLO_GUESTFS_LOAD
  return out;
}

}  // namespace

Result<const GuestfsLibrary*> guestfs_library() {
  static const Result<GuestfsLibrary> loaded = load();
  if (!loaded.ok()) return loaded.error();
  return &*loaded;
}

}  // namespace reclo::recovery
