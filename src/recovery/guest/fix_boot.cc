// The way from the firmware to the kernel: boot loader, UEFI's fallback, kernel arguments.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <functional>

#include "base/units.h"
#include "os/file.h"
#include "recovery/guest/fix.h"

namespace reclo::recovery {
namespace {

constexpr uint64_t kLoaderSizeBytesMax = 32 * kMiB;
constexpr size_t kGrubEnvironmentSizeBytes = 1024;  // GRUB writes it in place
constexpr std::string_view kGrubEnvironmentHead = "# GRUB Environment Block\n";

// Where the arguments stand in a line of a boot configuration.
enum class Style { kGrubConfig, kBootEntry, kDefaults, kEnvironment, kPlain };

struct ArgumentSpan {
  size_t begin = 0;
  size_t end = 0;
};

std::optional<ArgumentSpan> grub_arguments(std::string_view line) {
  const size_t start = line.find_first_not_of(" \t");
  if (start == std::string_view::npos) return std::nullopt;
  const size_t word_end = line.find_first_of(" \t", start);
  if (word_end == std::string_view::npos) return std::nullopt;
  const std::string_view word = line.substr(start, word_end - start);
  if (word != "linux" && word != "linux16" && word != "linuxefi") return std::nullopt;
  const size_t path = line.find_first_not_of(" \t", word_end);
  if (path == std::string_view::npos) return std::nullopt;
  return ArgumentSpan{std::min(line.find_first_of(" \t", path), line.size()), line.size()};
}

std::optional<ArgumentSpan> find_arguments(std::string_view line, Style style) {
  if (style == Style::kGrubConfig) return grub_arguments(line);
  if (style == Style::kPlain)
    return line.empty() ? std::nullopt : std::optional(ArgumentSpan{0, line.size()});
  if (style == Style::kEnvironment && line.starts_with("kernelopts="))
    return ArgumentSpan{std::string_view("kernelopts=").size(), line.size()};
  if (style == Style::kBootEntry && (line.starts_with("options ") || line.starts_with("options\t")))
    return ArgumentSpan{7, line.size()};
  if (style == Style::kDefaults && line.starts_with("GRUB_CMDLINE_LINUX=\"")) {
    const size_t begin = std::string_view("GRUB_CMDLINE_LINUX=\"").size();
    const size_t end = line.find('"', begin);
    if (end != std::string_view::npos) return ArgumentSpan{begin, end};
  }
  return std::nullopt;
}

using EditArguments = std::function<std::string(std::string_view arguments)>;

std::string edit_text(std::string_view text, Style style, const EditArguments& edit) {
  std::string out;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    const auto span = find_arguments(line, style);
    if (span)
      out += fmt::format("{}{}{}", line.substr(0, span->begin),
                         edit(line.substr(span->begin, span->end - span->begin)),
                         line.substr(span->end));
    else
      out += line;
    if (end < text.size()) out += '\n';
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  if (style != Style::kEnvironment) return out;
  // A fixed size, filled up with '#'.
  while (!out.empty() && out.back() == '#') out.pop_back();
  if (out.size() <= kGrubEnvironmentSizeBytes) out.resize(kGrubEnvironmentSizeBytes, '#');
  return out;
}

struct BootFile {
  std::string path;
  Style style;
};

Result<std::vector<BootFile>> boot_files(const FixInput& input) {
  std::vector<BootFile> out = {{"/boot/grub/grub.cfg", Style::kGrubConfig},
                               {"/boot/grub2/grub.cfg", Style::kGrubConfig},
                               {"/boot/grub2/grubenv", Style::kEnvironment},
                               {"/etc/default/grub", Style::kDefaults},
                               {"/etc/kernel/cmdline", Style::kPlain}};
  RECLO_ASSIGN_OR_RETURN(const auto entries, input.files.list("/boot/loader/entries"));
  for (const std::string& name : entries)
    if (name.ends_with(".conf")) out.push_back({"/boot/loader/entries/" + name, Style::kBootEntry});
  if (!input.facts.esp_folder.empty()) {
    const std::string folder = input.facts.esp_folder + "/EFI";
    RECLO_ASSIGN_OR_RETURN(const auto vendors, input.files.list(folder));
    for (const std::string& vendor : vendors)
      out.push_back({fmt::format("{}/{}/grub.cfg", folder, vendor), Style::kGrubConfig});
  }
  return out;
}

// Edits the arguments wherever they stand. Returns how many kernel lines were seen.
Result<size_t> edit_everywhere(const FixInput& input, const EditArguments& edit) {
  RECLO_ASSIGN_OR_RETURN(const auto files, boot_files(input));
  size_t seen = 0;
  for (const BootFile& file : files) {
    RECLO_ASSIGN_OR_RETURN(const auto text, read_text(input.files, file.path));
    if (!text) continue;
    if (file.style == Style::kEnvironment && !text->starts_with(kGrubEnvironmentHead)) continue;
    const std::string edited = edit_text(*text, file.style, [&](std::string_view arguments) {
      if (file.style != Style::kDefaults) ++seen;
      return edit(arguments);
    });
    RECLO_TRY(input.changes.replace(file.path, edited));
  }
  return seen;
}

std::vector<std::string> words(std::string_view text) {
  std::vector<std::string> out;
  while (true) {
    const size_t start = text.find_first_not_of(" \t\r");
    if (start == std::string_view::npos) return out;
    const size_t end = std::min(text.find_first_of(" \t\r", start), text.size());
    out.emplace_back(text.substr(start, end - start));
    text.remove_prefix(end);
  }
}

bool has_argument(std::string_view arguments, std::string_view start) {
  const auto all = words(arguments);
  return std::any_of(all.begin(), all.end(),
                     [&](const std::string& word) { return word.starts_with(start); });
}

std::string replace_word(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    const bool starts = at == 0 || text[at - 1] == ' ' || text[at - 1] == '\t';
    const size_t end = at + from.size();
    const bool ends = end == text.size() || text[end] == ' ' || text[end] == '\t';
    if (starts && ends) text.replace(at, from.size(), to);
  }
  return text;
}

}  // namespace

// root= and resume= by UUID.
Status fix_root_argument(const FixInput& input, FixReport& report) {
  std::vector<std::string> found;
  const auto note = [&](const std::string& text) {
    if (std::find(found.begin(), found.end(), text) == found.end()) found.push_back(text);
  };
  RECLO_ASSIGN_OR_RETURN(
      const size_t seen, edit_everywhere(input, [&](std::string_view arguments) {
        std::string out(arguments);
        for (const std::string& word : words(arguments)) {
          const bool root = word.starts_with("root=");
          if (!root && !word.starts_with("resume=")) continue;
          const std::string spec = word.substr(word.find('=') + 1);
          if (!is_named_by_place(spec)) continue;
          const GuestVolume* const volume = resolve_device(input.facts, spec);
          if (volume != nullptr && !volume->uuid.empty()) {
            note(word);
            out = replace_word(out, word, word.substr(0, word.find('=')) + "=UUID=" + volume->uuid);
          } else if (!root) {
            note(word + " is not in the backup");
            out = replace_word(out, word, "noresume");
          }
        }
        return out;
      }));
  report.needed = !found.empty();
  if (seen == 0)
    report.why = "no boot configuration with kernel arguments was found";
  else
    report.why = found.empty() ? "the root file system is named by itself, not by its place"
                               : fmt::format("{}", fmt::join(found, "; "));
  return {};
}

// NVMe's patience: a volume of EC2 may answer late, and never fails for that (AWS's advice). And a
// console that can be read from outside, as evidence of what a start did.
Status fix_kernel_arguments(const FixInput& input, FixReport& report) {
  const bool for_ec2 = input.choices.target == PrepareTarget::kEc2;
  bool timeout_missing = false;
  bool console_missing = false;
  RECLO_ASSIGN_OR_RETURN(const size_t seen, edit_everywhere(input, [&](std::string_view arguments) {
                           std::string out(arguments);
                           while (!out.empty() && (out.back() == ' ' || out.back() == '\r'))
                             out.pop_back();
                           if (for_ec2 && !has_argument(arguments, "nvme_core.io_timeout=")) {
                             timeout_missing = true;
                             out += " nvme_core.io_timeout=4294967295";
                           }
                           if (!has_argument(arguments, "console=ttyS0")) {
                             console_missing = true;
                             // The last one named is the system's own.
                             if (!has_argument(arguments, "console=tty0")) out += " console=tty0";
                             out += " console=ttyS0,115200n8";
                           }
                           return out;
                         }));
  report.needed = timeout_missing || console_missing;
  if (timeout_missing) report.why = "NVMe gives a slow volume up after 30 s";
  if (console_missing)
    report.why +=
        std::string(report.why.empty() ? "" : "; ") + "nothing is said on the serial line";
  if (seen == 0) report.why = "no boot configuration with kernel arguments was found";
  if (report.why.empty()) report.why = "the kernel's arguments are as they have to be";
  return {};
}

// Firmware that never saw this disk starts \EFI\BOOT\BOOTX64.EFI and nothing else.
Status fix_uefi_fallback(const FixInput& input, FixReport& report) {
  if (input.facts.esp_folder.empty()) {
    report.why = input.facts.needs_uefi ? "the EFI system partition could not be looked into"
                                        : "the disk does not start by UEFI";
    return {};
  }
  const std::string folder = input.facts.esp_folder + "/EFI";
  RECLO_ASSIGN_OR_RETURN(const bool there, exists(input.files, folder + "/BOOT/BOOTX64.EFI"));
  if (there) {
    report.why = "UEFI's fallback loader is there";
    return {};
  }
  report.needed = true;
  report.why = "there is no \\EFI\\BOOT\\BOOTX64.EFI, the only one that other firmware knows";
  RECLO_ASSIGN_OR_RETURN(const auto vendors, input.files.list(folder));
  for (const std::string& vendor : vendors) {
    const std::string own = folder + "/" + vendor;
    const auto shim = input.files.read(own + "/shimx64.efi", kLoaderSizeBytesMax);
    const auto grub = input.files.read(own + "/grubx64.efi", kLoaderSizeBytesMax);
    if (vendor == "BOOT" || (!shim.ok() && !grub.ok())) continue;
    RECLO_TRY(input.changes.add(folder + "/BOOT/BOOTX64.EFI", as_text(shim.ok() ? *shim : *grub)));
    // shim starts the grubx64.efi beside itself.
    if (shim.ok() && grub.ok())
      RECLO_TRY(input.changes.add(folder + "/BOOT/grubx64.efi", as_text(*grub)));
    return {};
  }
  if (input.facts.needs_uefi)
    report.blocker = "the EFI system partition holds no boot loader that could be found";
  return {};
}

Status fix_boot_loader(const FixInput& input, FixReport& report) {
  if (!input.facts.has_boot_loader) {
    report.needed = true;
    report.blocker =
        "the first disk has no boot loader (no boot code in its first sector, no EFI system "
        "partition)";
    report.why = report.blocker;
    return {};
  }
  report.why = input.facts.needs_uefi ? "the disk starts by UEFI" : "the disk starts by BIOS";
  return {};
}

}  // namespace reclo::recovery
