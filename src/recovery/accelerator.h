// Which engine runs the guest's instructions: the CPU itself (KVM) or QEMU's translator (TCG).
//
// /dev/kvm alone proves nothing: a machine can offer the device without the CPU's extensions, and
// QEMU then hangs instead of failing. KVM is used only where the device opens for reading and
// writing *and* the CPU's flags name vmx or svm. Any thread.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace reclo::recovery {

enum class Accelerator { kKvm, kTcg };
std::string_view accelerator_name(Accelerator accelerator);  // "kvm", "tcg"

struct AcceleratorFacts {
  bool kvm_opens = false;
  bool cpu_virtualises = false;
};
/// Looks at this machine.
AcceleratorFacts probe_accelerator();
/// Whether a "flags" line of /proc/cpuinfo's text names vmx or svm.
bool cpuinfo_names_virtualisation(std::string_view cpuinfo);

/// `wanted` is "auto", "kvm" or "tcg". Errors: kInvalidArgument; kUnsupported when KVM is demanded
/// and does not work here, with the reason.
Result<Accelerator> choose_accelerator(std::string_view wanted, const AcceleratorFacts& facts);

}  // namespace reclo::recovery
