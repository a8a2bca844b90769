// A guest's initramfs: what is in it, and an archive that adds kernel modules to it.
//
// The kernel unpacks any number of archives one after the other, each compressed or not: processor
// microcode first (plain), then the distribution's (compressed), then ours (plain, at the end).
// Later files win, so ours brings the modules and index files that name them. A mark in its last
// kilobyte says where it begins, so a second preparation finds it. Any thread.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "recovery/guest/kernel_modules.h"

namespace reclo::recovery {

struct InitramfsFacts {
  std::set<std::string> names;               // everything in it, "usr/lib/modules/…"
  std::map<std::string, std::string> texts;  // the few small files that are looked at
  std::string compression;                   // of the main archive: "gzip", "zstd", "lz4", "none" …
  bool is_dracut = false;
  bool was_extended = false;  // an archive of ours is in it already
};

/// Errors: kUnsupported for a compression that is not known, kCorruption.
Result<InitramfsFacts> scan_initramfs(ByteSpan image);

/// Which of these modules it holds: name → path in the archive.
std::map<std::string, std::string> modules_in(const InitramfsFacts& facts);

struct InitramfsAddition {
  std::vector<std::string> modules;    // by name, dependencies first
  std::map<std::string, Bytes> files;  // module name → its file's content, as the guest has it
};
/// What is to be put behind `image_size_bytes` of initramfs, the alignment before it included.
Bytes make_addition(const InitramfsFacts& facts, uint64_t image_size_bytes,
                    const std::string& kernel_version, const KernelModules& kernel,
                    const InitramfsAddition& addition);

}  // namespace reclo::recovery
