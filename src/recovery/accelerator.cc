#include "recovery/accelerator.h"

#include <fmt/format.h>

#include "os/file.h"

namespace reclo::recovery {
namespace {
constexpr uint64_t kCpuinfoSizeBytesMax = 16 * 1024 * 1024;
}

std::string_view accelerator_name(Accelerator accelerator) {
  return accelerator == Accelerator::kKvm ? "kvm" : "tcg";
}

bool cpuinfo_names_virtualisation(std::string_view cpuinfo) {
  while (!cpuinfo.empty()) {
    const size_t end = std::min(cpuinfo.find('\n'), cpuinfo.size());
    std::string_view line = cpuinfo.substr(0, end);
    cpuinfo.remove_prefix(std::min(end + 1, cpuinfo.size()));
    if (!line.starts_with("flags")) continue;
    line.remove_prefix(std::min(line.find(':') + 1, line.size()));
    while (!line.empty()) {
      const size_t word_end = std::min(line.find(' '), line.size());
      const std::string_view word = line.substr(0, word_end);
      if (word == "vmx" || word == "svm") return true;
      line.remove_prefix(std::min(word_end + 1, line.size()));
    }
  }
  return false;
}

AcceleratorFacts probe_accelerator() {
  AcceleratorFacts facts;
  facts.kvm_opens = os::open_file("/dev/kvm", os::OpenMode::kReadWrite).ok();
  const auto cpuinfo = os::read_file("/proc/cpuinfo", kCpuinfoSizeBytesMax);
  facts.cpu_virtualises = cpuinfo.ok() && cpuinfo_names_virtualisation(as_text(*cpuinfo));
  return facts;
}

Result<Accelerator> choose_accelerator(std::string_view wanted, const AcceleratorFacts& facts) {
  const bool works = facts.kvm_opens && facts.cpu_virtualises;
  if (wanted == "tcg") return Accelerator::kTcg;
  if (wanted == "auto") return works ? Accelerator::kKvm : Accelerator::kTcg;
  if (wanted != "kvm")
    return Error(Code::kInvalidArgument,
                 fmt::format("accelerator '{}' is not auto, kvm or tcg", wanted));
  if (works) return Accelerator::kKvm;
  return Error(Code::kUnsupported,
               facts.cpu_virtualises
                   ? "KVM cannot be used: /dev/kvm does not open for reading and writing (is the "
                     "module loaded, and are you in the group kvm?); use --accel tcg"
                   : "KVM cannot be used: this CPU offers neither vmx nor svm (in a virtual "
                     "machine, nested virtualisation must be switched on); use --accel tcg");
}

}  // namespace reclo::recovery
