#include "disk/image_references.h"

#include <fmt/format.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <memory>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/units.h"
#include "disk/image_format.h"
#include "os/file.h"
#include "os/subprocess.h"

namespace reclo::disk {
namespace {

constexpr std::chrono::seconds kInfoTimeout{30};

Result<std::string> real_path(const std::string& path) {
  const std::unique_ptr<char, void (*)(void*)> found(::realpath(path.c_str(), nullptr), ::free);
  if (!found) return Error::from_errno(errno, "find " + path);
  return std::string(found.get());
}

Error refused(const std::string& image, const std::string& name, std::string_view why) {
  return Error(Code::kPermissionDenied,
               fmt::format("{} refers to '{}', which {}: an image may only refer to files in its "
                           "own folder; convert it with qemu-img first if you trust it",
                           image, name, why));
}

// The full path of the file that `image` calls `name`, when it is allowed.
Result<std::string> allowed_reference(const std::string& image, const std::string& name) {
  // QEMU takes whatever stands before a ':' for a protocol (nbd:, json:, ssh:).
  const size_t special = name.find_first_of(":/");
  if (name.empty() || (special != std::string::npos && name[special] == ':'))
    return refused(image, name, "is not a plain file name");
  RECLO_ASSIGN_OR_RETURN(const std::string folder, real_path(os::parent_path(image)));
  const std::string wanted = name[0] == '/' ? name : os::join_path(folder, name);
  RECLO_ASSIGN_OR_RETURN_WITH(std::string found, real_path(wanted), image);
  if (os::parent_path(found) != folder) return refused(image, name, "is outside its folder");
  struct stat info{};
  if (::stat(found.c_str(), &info) != 0) return Error::from_errno(errno, "stat " + found);
  if (!S_ISREG(info.st_mode)) return refused(image, name, "is not a regular file");
  return found;
}

// Quoted names in a VMDK text descriptor: extents, and the parent's.
std::vector<std::string> names_in_descriptor(std::string_view text) {
  std::vector<std::string> names;
  while (!text.empty()) {
    const size_t line_end = std::min(text.find_first_of("\r\n"), text.size());
    const std::string_view line = text.substr(0, line_end);
    text.remove_prefix(std::min(line_end + 1, text.size()));
    const size_t open = line.find('"');
    if (open == std::string_view::npos) continue;
    const size_t equals = line.find('=');
    const bool is_setting = equals < open;
    if (is_setting && line.find("parentFileNameHint") == std::string_view::npos) continue;
    const size_t close = line.find('"', open + 1);
    names.emplace_back(line.substr(open + 1, close - open - 1));
  }
  return names;
}

// qemu-img opens the extents already to describe them, so their names are looked at before it runs.
Status check_vmdk_before_qemu(const std::string& path) {
  RECLO_ASSIGN_OR_RETURN(const uint64_t size_bytes, os::file_size_bytes(path));
  RECLO_ASSIGN_OR_RETURN(const os::Fd fd, os::open_file(path, os::OpenMode::kRead));
  std::array<uint8_t, 20> head{};
  RECLO_TRY_WITH(os::read_at(fd, 0, head), path);
  if (as_text(head).substr(0, 4) == "KDMV") {
    // Capacity 0: a sparse header that only wraps a descriptor of other files.
    if (load_le<uint64_t>(&head[12]) == 0)
      return Error(Code::kUnsupported,
                   path + " is a VMDK that only refers to other files: convert it with qemu-img");
    return {};
  }
  if (size_bytes > kMiB)
    return Error(Code::kUnsupported, path + " is not a VMDK that can be read: no descriptor");
  RECLO_ASSIGN_OR_RETURN(const Bytes text, os::read_file(path, kMiB));
  for (const std::string& name : names_in_descriptor(as_text(text)))
    RECLO_TRY(allowed_reference(path, name));
  return {};
}

struct Backing {
  std::string path;  // empty: none
  std::string format;
};

// What qemu-img says about one image; checks all names in it.
Result<Backing> check_one(const std::string& path, const std::string& format,
                          const CancelToken& cancel) {
  if (format == "vmdk") RECLO_TRY(check_vmdk_before_qemu(path));
  std::vector<std::string> argv = {"qemu-img", "info", "-U", "--output=json"};
  if (!format.empty()) argv.insert(argv.end(), {"-f", format});
  argv.push_back(path);
  auto text = os::run_checked(argv, cancel.with_timeout(kInfoTimeout));
  if (!text.ok() && text.error().code() == Code::kIo)
    return Error(Code::kUnsupported,
                 fmt::format("{} cannot be read as an image: {}", path, text.error().message()));
  RECLO_TRY(text);
  RECLO_ASSIGN_OR_RETURN(const Json info, parse_json(*text, "qemu-img's description of " + path));

  const auto pointer = "/format-specific/data"_json_pointer;
  const Json specific = info.contains(pointer) ? info.at(pointer) : Json::object();
  RECLO_ASSIGN_OR_RETURN(const std::string data_file,
                         json_get_or<std::string>(specific, "data-file", ""));
  if (!data_file.empty()) RECLO_TRY(allowed_reference(path, data_file));
  if (specific.contains("extents")) {
    RECLO_ASSIGN_OR_RETURN(const Json* extents, json_array(specific, "extents"));
    for (const Json& extent : *extents) {
      RECLO_ASSIGN_OR_RETURN(const std::string name,
                             json_get_or<std::string>(extent, "filename", ""));
      RECLO_TRY(allowed_reference(path, name));
    }
  }
  Backing backing;
  RECLO_ASSIGN_OR_RETURN(const std::string backing_name,
                         json_get_or<std::string>(info, "backing-filename", ""));
  if (backing_name.empty()) return backing;
  RECLO_ASSIGN_OR_RETURN(backing.path, allowed_reference(path, backing_name));
  RECLO_ASSIGN_OR_RETURN(backing.format,
                         json_get_or<std::string>(info, "backing-filename-format", ""));
  return backing;
}

}  // namespace

Status check_image_references(const std::string& path, const std::string& format,
                              const CancelToken& cancel) {
  Backing at{path, format};
  for (int length = 0; length < kImageChainLengthMax; ++length) {
    // A backing file without a stated format is probed by QEMU, here and later alike.
    RECLO_ASSIGN_OR_RETURN(at, check_one(at.path, at.format, cancel));
    if (at.path.empty() || at.format == "raw") return {};
  }
  return Error(Code::kUnsupported,
               fmt::format("{} stands on more than {} backing files (or on itself): flatten it "
                           "with qemu-img convert",
                           path, kImageChainLengthMax));
}

}  // namespace reclo::disk
