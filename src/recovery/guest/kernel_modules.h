// A guest kernel's modules as depmod lists them: modules.dep, modules.builtin, modules.alias, and
// the binary indexes that kmod reads instead of them. Names use '_' for '-', as the kernel does.
// Values; any thread.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace reclo::recovery {

struct KernelModule {
  std::string path;                // below the version's folder: "kernel/drivers/…/nvme.ko.xz"
  std::vector<std::string> needs;  // names, as modules.dep orders them
};

struct KernelModules {
  std::map<std::string, KernelModule> modules;
  std::set<std::string> builtin;
  std::vector<std::pair<std::string, std::string>> aliases;  // pattern, module name

  bool has(const std::string& name) const {
    return builtin.contains(name) || modules.contains(name);
  }
};

/// "kernel/drivers/nvme/host/nvme-core.ko.zst" → "nvme_core"; "" for what is no module.
std::string module_name(std::string_view path);

/// From the three text files. Bad lines are left out: they cost a driver, and that is reported.
KernelModules parse_modules(std::string_view dep, std::string_view builtin, std::string_view alias);

/// The wanted modules and all that they need, needed ones first, without built-in ones. What the
/// kernel does not have is left out.
std::vector<std::string> with_dependencies(const KernelModules& kernel,
                                           const std::vector<std::string>& wanted);

/// kmod's binary index (libkmod/libkmod-index.c): a trie of keys with their values.
Bytes encode_index(const std::vector<std::pair<std::string, std::string>>& entries);

}  // namespace reclo::recovery
