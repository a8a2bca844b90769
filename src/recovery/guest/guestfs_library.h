// libguestfs's functions, found in its shared library at run time. Any thread.
#pragma once

#include <guestfs.h>

#include "base/result.h"

namespace reclo::recovery {

// What is used of it; each becomes a member of GuestfsLibrary.
#define RECLO_GUESTFS_FUNCTIONS(X)                                                                \
  X(create)                                                                                       \
  X(close) X(set_error_handler) X(last_error) X(last_errno) X(set_backend) X(set_backend_setting) \
      X(set_memsize) X(add_drive_opts_argv) X(launch) X(shutdown) X(get_pid) X(list_filesystems)  \
          X(list_partitions) X(blkid) X(part_to_partnum) X(part_to_dev) X(device_index)           \
              X(mount_options) X(umount_all) X(lstatns) X(statns) X(free_statns) X(ls) X(pread)   \
                  X(write) X(write_append) X(truncate_size) X(chmod) X(mkdir_mode) X(ln_s) X(rm)  \
                      X(rmdir) X(mv) X(lgetxattr) X(lsetxattr) X(sync) X(umount_opts_argv)

struct GuestfsLibrary {
#define RECLO_GUESTFS_MEMBER(name) decltype(&guestfs_##name) name = nullptr;
  RECLO_GUESTFS_FUNCTIONS(RECLO_GUESTFS_MEMBER)
#undef RECLO_GUESTFS_MEMBER
};

/// Loaded once, never unloaded. Errors: kNotFound names the package.
Result<const GuestfsLibrary*> guestfs_library();

}  // namespace reclo::recovery
