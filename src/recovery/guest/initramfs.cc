#include "recovery/guest/initramfs.h"

#include <archive.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <memory>

#include "base/units.h"
#include "recovery/guest/cpio.h"

namespace reclo::recovery {
namespace {

constexpr uint64_t kUnpackedSizeBytesMax = 4 * kGiB;  // a bomb ends there
constexpr std::string_view kMark = "RECLO-ADDED-AT ";
constexpr size_t kMarkDigits = 16;
constexpr const char* kMarkFile = "reclo-added";
constexpr size_t kAdditionsMax = 64;

struct FreeArchive {
  void operator()(archive* handle) const { archive_read_free(handle); }
};

// Where the archive of ours begins, by the mark near the end.
std::optional<uint64_t> find_addition(ByteSpan image) {
  const std::string_view text = as_text(image.last(std::min<size_t>(image.size(), 1024)));
  const size_t at = text.rfind(kMark);
  if (at == std::string_view::npos || at + kMark.size() + kMarkDigits > text.size())
    return std::nullopt;
  const std::string_view digits = text.substr(at + kMark.size(), kMarkDigits);
  uint64_t offset = 0;
  const auto [end, failure] =
      std::from_chars(digits.data(), digits.data() + digits.size(), offset, 16);
  if (failure != std::errc() || end != digits.data() + digits.size() || offset >= image.size())
    return std::nullopt;
  return offset;
}

class Scan {
 public:
  explicit Scan(InitramfsFacts& facts) : facts_(facts) {}

  /// Plain archives from `at` on; returns where something else begins.
  Result<size_t> read_plain(ByteSpan image, size_t at) {
    while (at < image.size()) {
      while (at < image.size() && image[at] == 0) ++at;
      const std::string_view rest = as_text(image.subspan(at));
      if (!rest.starts_with("07070")) break;
      CpioScanner scanner = new_scanner();
      RECLO_ASSIGN_OR_RETURN(const size_t used, scanner.feed(image.subspan(at)));
      if (!scanner.ended()) return Error(Code::kCorruption, "the initramfs ends too early");
      at += used;
    }
    return at;
  }

  Status read_compressed(ByteSpan image) {
    const std::unique_ptr<archive, FreeArchive> handle(archive_read_new());
    if (handle == nullptr) return Error(Code::kInternal, "libarchive makes no reader");
    archive_read_support_filter_all(handle.get());
    archive_read_support_format_raw(handle.get());
    archive_entry* entry = nullptr;
    if (archive_read_open_memory(handle.get(), image.data(), image.size()) != ARCHIVE_OK ||
        archive_read_next_header(handle.get(), &entry) != ARCHIVE_OK)
      return Error(Code::kUnsupported, "the initramfs is compressed in a way that is not known");
    facts_.compression = archive_filter_name(handle.get(), 0);
    if (facts_.compression == "none")
      return Error(Code::kUnsupported, "the initramfs is compressed in a way that is not known");
    CpioScanner scanner = new_scanner();
    Bytes buffer(kMiB);
    uint64_t unpacked = 0;
    while (!scanner.ended()) {
      const la_ssize_t got = archive_read_data(handle.get(), buffer.data(), buffer.size());
      if (got <= 0 || (unpacked += static_cast<uint64_t>(got)) > kUnpackedSizeBytesMax)
        return Error(Code::kCorruption, "the initramfs cannot be unpacked");
      RECLO_ASSIGN_OR_RETURN(const size_t used,
                             scanner.feed(ByteSpan(buffer).first(static_cast<size_t>(got))));
      static_cast<void>(used);  // all of it until the archive ends
    }
    return {};
  }

 private:
  CpioScanner new_scanner() {
    return CpioScanner(
        [](const std::string& name) {
          return name == "conf/modules" || name == "etc/modules-load.d/reclo.conf";
        },
        [this](CpioEntry entry) {
          if (!entry.content.empty()) facts_.texts[entry.name] = as_text(entry.content);
          if (entry.name.find("dracut") != std::string::npos) facts_.is_dracut = true;
          facts_.names.insert(std::move(entry.name));
        });
  }

  InitramfsFacts& facts_;
};

// "usr/lib/modules" or "lib/modules": where the archive has its modules. What is a link there must
// not be made a folder, or all below it would be gone.
std::string modules_folder(const InitramfsFacts& facts) {
  for (const std::string& name : facts.names)
    if (name.starts_with("usr/lib/modules")) return "usr/lib/modules";
  for (const std::string& name : facts.names)
    if (name.starts_with("lib/modules/")) return "lib/modules";
  return facts.names.contains("usr/lib") ? "usr/lib/modules" : "lib/modules";
}

void add_folders(CpioWriter& writer, std::set<std::string>& known, const std::string& file) {
  for (size_t slash = file.find('/'); slash != std::string::npos; slash = file.find('/', slash + 1))
    if (known.insert(file.substr(0, slash)).second) writer.add_folder(file.substr(0, slash));
}

// All modules that there will be, with their paths in the archive, below the version's folder.
std::map<std::string, std::string> all_paths(const InitramfsFacts& facts, const std::string& folder,
                                             const KernelModules& kernel,
                                             const InitramfsAddition& addition) {
  std::map<std::string, std::string> paths;
  for (const auto& [name, path] : modules_in(facts))
    if (path.starts_with(folder + "/")) paths[name] = path.substr(folder.size() + 1);
  for (const std::string& name : addition.modules) paths[name] = kernel.modules.at(name).path;
  return paths;
}

struct Indexes {
  std::string dep;
  Bytes dep_bin;
  std::string alias;
  Bytes alias_bin;
};

Indexes make_indexes(const std::map<std::string, std::string>& paths, const KernelModules& kernel) {
  Indexes out;
  std::vector<std::pair<std::string, std::string>> dep;
  std::vector<std::pair<std::string, std::string>> alias;
  for (const auto& [name, path] : paths) {
    std::string line = path + ":";
    const auto known = kernel.modules.find(name);
    if (known != kernel.modules.end())
      for (const std::string& need : known->second.needs)
        if (const auto there = paths.find(need); there != paths.end()) line += " " + there->second;
    out.dep += line + "\n";
    dep.emplace_back(name, line);
  }
  for (const auto& [pattern, name] : kernel.aliases)
    if (paths.contains(name)) {
      out.alias += fmt::format("alias {} {}\n", pattern, name);
      alias.emplace_back(pattern, name);
    }
  out.dep_bin = encode_index(dep);
  out.alias_bin = encode_index(alias);
  return out;
}

// What the initramfs loads without being asked by a device.
std::string load_list(const InitramfsFacts& facts, const std::string& file,
                      const InitramfsAddition& addition) {
  const auto before = facts.texts.find(file);
  std::string text = before == facts.texts.end() ? "" : before->second;
  if (!text.empty() && text.back() != '\n') text += '\n';
  for (const std::string& name : addition.modules) text += name + "\n";
  return text;
}

}  // namespace

Result<InitramfsFacts> scan_initramfs(ByteSpan image) {
  InitramfsFacts facts;
  facts.compression = "none";
  Scan scan(facts);
  // Ours from the last one back: each names its own beginning, which is the end of what was before.
  std::vector<ByteSpan> additions;
  ByteSpan original = image;
  while (additions.size() < kAdditionsMax) {
    const std::optional<uint64_t> begin = find_addition(original);
    if (!begin) break;
    additions.push_back(original.subspan(*begin));
    original = original.first(*begin);
  }
  RECLO_ASSIGN_OR_RETURN(const size_t at, scan.read_plain(original, 0));
  if (at < original.size()) RECLO_TRY(scan.read_compressed(original.subspan(at)));
  for (auto addition = additions.rbegin(); addition != additions.rend(); ++addition) {
    RECLO_ASSIGN_OR_RETURN(const size_t end, scan.read_plain(*addition, 0));
    facts.was_extended = facts.was_extended || end > 0;
  }
  return facts;
}

std::map<std::string, std::string> modules_in(const InitramfsFacts& facts) {
  std::map<std::string, std::string> out;
  for (const std::string& name : facts.names)
    if (name.find("lib/modules/") != std::string::npos)
      if (std::string module = module_name(name); !module.empty()) out[module] = name;
  return out;
}

Bytes make_addition(const InitramfsFacts& facts, uint64_t image_size_bytes,
                    const std::string& kernel_version, const KernelModules& kernel,
                    const InitramfsAddition& addition) {
  const std::string folder = modules_folder(facts) + "/" + kernel_version;
  CpioWriter writer;
  std::set<std::string> known = facts.names;
  // Whatever they are in the archive before: never made anew.
  known.insert({"lib", "usr", "usr/lib", "etc", "conf"});
  const auto add = [&](const std::string& name, ByteSpan content) {
    add_folders(writer, known, name);
    writer.add_file(name, content);
  };
  for (const std::string& name : addition.modules)
    add(folder + "/" + kernel.modules.at(name).path, addition.files.at(name));
  const Indexes indexes = make_indexes(all_paths(facts, folder, kernel, addition), kernel);
  add(folder + "/modules.dep", as_bytes(indexes.dep));
  add(folder + "/modules.dep.bin", indexes.dep_bin);
  add(folder + "/modules.alias", as_bytes(indexes.alias));
  add(folder + "/modules.alias.bin", indexes.alias_bin);
  const std::string list = facts.is_dracut ? "etc/modules-load.d/reclo.conf" : "conf/modules";
  if (facts.is_dracut || facts.names.contains("conf/arch.conf") || facts.texts.contains(list))
    add(list, as_bytes(load_list(facts, list, addition)));
  // Four zeros at least: LZ4 knows the end of its data by them.
  const uint64_t begin = round_up(image_size_bytes + 4, 512);
  writer.add_file(kMarkFile, as_bytes(fmt::format("{}{:016x}\n", kMark, begin)));
  Bytes archive = std::move(writer).finish();
  Bytes out(begin - image_size_bytes, 0);
  out.insert(out.end(), archive.begin(), archive.end());
  return out;
}

}  // namespace reclo::recovery
