// Drivers that the kernel needs before it has its root file system: NVMe in EC2, virtio under QEMU.
// What an initramfs lacks is put behind it as another archive; nothing of the guest is run.
#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"
#include "recovery/guest/fix.h"
#include "recovery/guest/initramfs.h"
#include "recovery/guest/kernel_modules.h"

namespace reclo::recovery {
namespace {

constexpr uint64_t kInitramfsSizeBytesMax = 512 * kMiB;
constexpr uint64_t kModuleSizeBytesMax = 32 * kMiB;
constexpr uint64_t kModuleListSizeBytesMax = 16 * kMiB;
constexpr size_t kKernelsMax = 32;

// Both targets' drivers go into every initramfs: a standby may have to run on QEMU after all.
const std::vector<std::string> kWanted = {"nvme",        "virtio_pci", "virtio_blk",
                                          "virtio_scsi", "virtio_net", "sd_mod"};

struct Kernel {
  std::string version;
  std::string initramfs;       // its path; empty: there is none
  std::string modules_folder;  // "/lib/modules/6.1.0-…"; empty: there is none
};

Result<std::string> modules_folder(GuestFiles& files, const std::string& version) {
  for (const char* parent : {"/usr/lib/modules/", "/lib/modules/"}) {
    RECLO_ASSIGN_OR_RETURN(const bool there, exists(files, parent + version + "/modules.dep"));
    if (there) return parent + version;
  }
  return std::string();
}

// Rescue kernels bring everything and are started by hand only.
Result<std::vector<Kernel>> find_kernels(GuestFiles& files) {
  RECLO_ASSIGN_OR_RETURN(const auto names, files.list("/boot"));
  std::vector<Kernel> kernels;
  for (const std::string& name : names) {
    if (!name.starts_with("vmlinuz-") || name.find("rescue") != std::string::npos ||
        kernels.size() >= kKernelsMax)
      continue;
    Kernel kernel;
    kernel.version = name.substr(std::string_view("vmlinuz-").size());
    for (const std::string& initramfs :
         {"initrd.img-" + kernel.version, "initramfs-" + kernel.version + ".img",
          "initrd-" + kernel.version})
      if (std::find(names.begin(), names.end(), initramfs) != names.end() &&
          kernel.initramfs.empty())
        kernel.initramfs = "/boot/" + initramfs;
    RECLO_ASSIGN_OR_RETURN(kernel.modules_folder, modules_folder(files, kernel.version));
    kernels.push_back(std::move(kernel));
  }
  return kernels;
}

Result<std::string> read_list(GuestFiles& files, const std::string& path) {
  const auto content = files.read(path, kModuleListSizeBytesMax);
  if (content.ok()) return std::string(as_text(*content));
  if (content.error().code() == Code::kNotFound) return std::string();
  return content.error();
}

Result<KernelModules> read_modules(GuestFiles& files, const std::string& folder) {
  if (folder.empty()) return KernelModules();
  RECLO_ASSIGN_OR_RETURN(const std::string dep, read_list(files, folder + "/modules.dep"));
  RECLO_ASSIGN_OR_RETURN(const std::string builtin, read_list(files, folder + "/modules.builtin"));
  RECLO_ASSIGN_OR_RETURN(const std::string alias, read_list(files, folder + "/modules.alias"));
  return parse_modules(dep, builtin, alias);
}

std::string joined(const std::vector<std::string>& names) {
  return fmt::format("{}", fmt::join(names, ", "));
}

std::vector<std::string> essential(PrepareTarget target) {
  if (target == PrepareTarget::kEc2) return {"nvme"};
  return {"virtio_pci", "virtio_blk"};
}

// Puts what the initramfs lacks behind it. Returns the modules' names, or why it cannot be done.
struct Extension {
  std::vector<std::string> added;
  std::string problem;
};
Result<Extension> extend(const FixInput& input, const Kernel& kernel,
                         const KernelModules& modules) {
  Extension out;
  RECLO_ASSIGN_OR_RETURN(const Bytes image,
                         input.files.read(kernel.initramfs, kInitramfsSizeBytesMax));
  const auto facts = scan_initramfs(image);
  if (!facts.ok()) {
    out.problem = fmt::format("{}: {}", kernel.initramfs, facts.error().message());
    return out;
  }
  const auto present = modules_in(*facts);
  InitramfsAddition addition;
  for (const std::string& name : with_dependencies(modules, kWanted))
    if (!present.contains(name)) addition.modules.push_back(name);
  if (addition.modules.empty()) return out;
  for (const std::string& name : addition.modules) {
    const std::string path = kernel.modules_folder + "/" + modules.modules.at(name).path;
    auto content = input.files.read(path, kModuleSizeBytesMax);
    if (!content.ok()) {
      out.problem = fmt::format("kernel {}: its module {} cannot be read: {}", kernel.version, name,
                                content.error().message());
      return out;
    }
    addition.files[name] = std::move(content).value();
  }
  const Status appended = input.changes.append(
      kernel.initramfs, make_addition(*facts, image.size(), kernel.version, modules, addition));
  if (!appended.ok() && appended.error().code() == Code::kNoSpace) {
    out.problem = fmt::format("{}: no space for its missing drivers: {}", kernel.initramfs,
                              appended.error().message());
    return out;
  }
  RECLO_TRY(appended);
  out.added = std::move(addition.modules);
  return out;
}

}  // namespace

Status fix_drivers(const FixInput& input, FixReport& report) {
  RECLO_ASSIGN_OR_RETURN(const std::vector<Kernel> kernels, find_kernels(input.files));
  if (kernels.empty()) {
    report.blocker = "there is no kernel in /boot";
    report.why = report.blocker;
    return {};
  }
  std::vector<std::string> found;
  std::vector<std::string> problems;  // of one kernel each; the server starts if one has none
  for (const Kernel& kernel : kernels) {
    RECLO_ASSIGN_OR_RETURN(const KernelModules modules,
                           read_modules(input.files, kernel.modules_folder));
    std::vector<std::string> lacking;
    for (const std::string& name : essential(input.choices.target))
      if (!modules.has(name)) lacking.push_back(name);
    if (!lacking.empty()) {
      problems.push_back(
          fmt::format("kernel {} has no driver {}", kernel.version, joined(lacking)));
      continue;
    }
    if (kernel.initramfs.empty()) {
      for (const std::string& name : essential(input.choices.target))
        if (!modules.builtin.contains(name)) lacking.push_back(name);
      if (!lacking.empty())
        problems.push_back(fmt::format("kernel {} has no initramfs that could load {}",
                                       kernel.version, joined(lacking)));
      continue;
    }
    RECLO_ASSIGN_OR_RETURN(const Extension done, extend(input, kernel, modules));
    if (!done.problem.empty()) problems.push_back(done.problem);
    if (!done.added.empty())
      found.push_back(
          fmt::format("the initramfs of {} had no {}", kernel.version, joined(done.added)));
  }
  report.needed = !found.empty() || !problems.empty();
  if (problems.size() == kernels.size()) report.blocker = problems.front();
  found.insert(found.end(), problems.begin(), problems.end());
  report.why = found.empty() ? fmt::format("all {} kernels can reach their disks", kernels.size())
                             : fmt::format("{}", fmt::join(found, "; "));
  return {};
}

Status fix_network_driver(const FixInput& input, FixReport& report) {
  const std::string wanted = input.choices.target == PrepareTarget::kEc2 ? "ena" : "virtio_net";
  RECLO_ASSIGN_OR_RETURN(const std::vector<Kernel> kernels, find_kernels(input.files));
  for (const Kernel& kernel : kernels) {
    RECLO_ASSIGN_OR_RETURN(const KernelModules modules,
                           read_modules(input.files, kernel.modules_folder));
    if (modules.has(wanted)) continue;
    report.needed = true;
    report.why += fmt::format("{}kernel {} has no driver {}: it would start without a network",
                              report.why.empty() ? "" : "; ", kernel.version, wanted);
  }
  if (report.why.empty()) report.why = "every kernel has the driver " + wanted;
  return {};
}

}  // namespace reclo::recovery
