#include "disk/device_use.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <sstream>
#include <vector>

#include "os/file.h"

namespace reclo::disk {
namespace {

using Found = std::optional<std::string>;
constexpr uint64_t kProcSizeBytesMax = uint64_t{16} << 20;

struct Device {
  dev_t number = 0;
  std::string name;  // "sdb1"
};

std::string sys_folder(dev_t number) {
  return fmt::format("/sys/dev/block/{}:{}", major(number), minor(number));
}

std::string text_of(const std::string& path) {
  const auto content = os::read_file(path, kProcSizeBytesMax);
  return content.ok() ? std::string(as_text(*content)) : std::string();
}

std::vector<std::string> names_in(const std::string& folder) {
  auto names = os::list_directory(folder);
  return names.ok() ? std::move(names).value() : std::vector<std::string>();
}

// The device itself and, for a whole disk, its partitions.
std::vector<Device> with_partitions(dev_t number, const std::string& path) {
  std::vector<Device> devices = {{number, path}};
  const std::string folder = sys_folder(number);
  for (const std::string& name : names_in(folder)) {
    const std::string partition = os::join_path(folder, name);
    if (!os::path_exists(os::join_path(partition, "partition"))) continue;
    unsigned major_number = 0;
    unsigned minor_number = 0;
    const std::string text = text_of(os::join_path(partition, "dev"));
    if (std::sscanf(text.c_str(), "%u:%u", &major_number, &minor_number) == 2)
      devices.push_back({makedev(major_number, minor_number), name});
  }
  return devices;
}

bool is_block_device(const std::string& path, dev_t number) {
  struct stat info{};
  return !path.empty() && path[0] == '/' && ::stat(path.c_str(), &info) == 0 &&
         S_ISBLK(info.st_mode) && info.st_rdev == number;
}

// proc(5): "36 35 98:0 /root /mountpoint options... - type source options". The source is compared
// too: btrfs shows a number of its own.
Found mounted_on(const Device& device) {
  std::istringstream lines(text_of("/proc/self/mountinfo"));
  const std::string number = fmt::format("{}:{}", major(device.number), minor(device.number));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string id, parent, found_number, root, where;
    words >> id >> parent >> found_number >> root >> where;
    std::string source;
    const size_t dash = line.find(" - ");
    if (dash != std::string::npos) {
      std::istringstream rest(line.substr(dash + 3));
      std::string type;
      rest >> type >> source;
    }
    if (found_number == number || is_block_device(source, device.number))
      return fmt::format("{} is mounted on {}", device.name, where);
  }
  return std::nullopt;
}

Found used_as_swap(const Device& device) {
  std::istringstream lines(text_of("/proc/swaps"));
  for (std::string line; std::getline(lines, line);)
    if (is_block_device(line.substr(0, line.find_first_of(" \t")), device.number))
      return device.name + " is in use as swap";
  return std::nullopt;
}

Found held_by(const Device& device) {
  const auto holders = names_in(os::join_path(sys_folder(device.number), "holders"));
  if (holders.empty()) return std::nullopt;
  return fmt::format("{} is used by {} (LVM, RAID or encryption)", device.name, holders.front());
}

bool same_file(const std::string& path, const struct stat& file) {
  struct stat info{};
  return ::stat(path.c_str(), &info) == 0 && info.st_dev == file.st_dev &&
         info.st_ino == file.st_ino;
}

Found file_backs(const std::string& path, const struct stat& file) {
  for (const std::string& name : names_in("/sys/block")) {
    if (name.rfind("loop", 0) != 0) continue;
    std::string backing = text_of(fmt::format("/sys/block/{}/loop/backing_file", name));
    while (!backing.empty() && backing.back() == '\n') backing.pop_back();
    if (!backing.empty() && same_file(backing, file))
      return fmt::format("{} is in use by /dev/{}", path, name);
  }
  std::istringstream lines(text_of("/proc/swaps"));
  for (std::string line; std::getline(lines, line);)
    if (same_file(line.substr(0, line.find_first_of(" \t")), file))
      return path + " is in use as swap";
  return std::nullopt;
}

}  // namespace

Result<Found> who_uses(const std::string& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) return Error::from_errno(errno, "stat " + path);
  if (!S_ISBLK(info.st_mode)) return file_backs(path, info);
  for (const Device& device : with_partitions(info.st_rdev, path)) {
    for (const auto check : {mounted_on, used_as_swap, held_by}) {
      Found found = check(device);
      if (found) return found;
    }
  }
  return Found();
}

}  // namespace reclo::disk
