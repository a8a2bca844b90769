#include "recovery/guest/guestfs_session.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <map>
#include <thread>

#include "base/log.h"
#include "os/file.h"
#include "recovery/accelerator.h"
#include "recovery/guest/guestfs_files.h"
#include "recovery/guest/guestfs_library.h"

namespace reclo::recovery {
namespace {

constexpr int kApplianceMemoryMib = 768;
constexpr std::chrono::minutes kSessionTimeMax{30};
constexpr size_t kMountsMax = 64;

// The list that libguestfs returns: strings, then a null pointer.
std::vector<std::string> take_list(char** list) {
  std::vector<std::string> out;
  if (list == nullptr) return out;
  for (char** at = list; *at != nullptr; ++at) {
    out.emplace_back(*at);
    ::free(*at);
  }
  ::free(list);
  return out;
}

// What has to be there for the appliance: supermin takes this machine's own kernel.
Status check_kernel() {
  if (std::getenv("SUPERMIN_KERNEL") != nullptr || std::getenv("LIBGUESTFS_PATH") != nullptr)
    return {};
  if (os::is_directory("/lib/modules")) {
    RECLO_ASSIGN_OR_RETURN(const auto names, os::list_directory("/boot"));
    for (const std::string& name : names)
      if (name.starts_with("vmlinuz-")) return {};
    RECLO_ASSIGN_OR_RETURN(const auto versions, os::list_directory("/lib/modules"));
    for (const std::string& version : versions)
      if (os::path_exists("/lib/modules/" + version + "/vmlinuz")) return {};
  }
  return Error(
      Code::kNotFound,
      "no kernel is installed on this machine, and libguestfs needs one for its appliance: "
      "install the package linux-image-cloud-amd64");
}

// Where a file system may be mounted while it is looked at, and for good.
bool is_needed(const std::string& folder) {
  for (const std::string_view wanted : {"/boot", "/boot/efi", "/efi", "/usr", "/var", "/etc"})
    if (folder == wanted) return true;
  return false;
}

class Session final : public GuestfsSession {
 public:
  Session(const GuestfsLibrary& library, guestfs_h* handle, const CancelToken& cancel)
      : library_(library),
        handle_(handle),
        cancel_(cancel.with_timeout(kSessionTimeMax)),
        files_(library, handle) {}

  ~Session() override {
    watcher_ = {};
    library_.close(handle_);
  }

  Status launch(const std::vector<SessionDisk>& disks) {
    library_.set_error_handler(handle_, nullptr, nullptr);
    RECLO_TRY(call(library_.set_backend(handle_, "direct"), "choose the backend"));
    RECLO_TRY(call(library_.set_memsize(handle_, kApplianceMemoryMib), "set the memory"));
    RECLO_ASSIGN_OR_RETURN(const Accelerator accelerator,
                           choose_accelerator("auto", probe_accelerator()));
    if (accelerator == Accelerator::kTcg)
      RECLO_TRY(call(library_.set_backend_setting(handle_, "force_tcg", "1"), "choose TCG"));
    for (const SessionDisk& disk : disks) {
      struct guestfs_add_drive_opts_argv options{};
      options.bitmask =
          GUESTFS_ADD_DRIVE_OPTS_FORMAT_BITMASK | GUESTFS_ADD_DRIVE_OPTS_CACHEMODE_BITMASK;
      options.format = disk.format.c_str();
      // Overlays are thrown away when anything fails; finish() syncs what stays.
      options.cachemode = disk.format == "qcow2" ? "unsafe" : "writeback";
      RECLO_TRY(call(library_.add_drive_opts_argv(handle_, disk.path.c_str(), &options),
                     "add " + disk.path));
    }
    RECLO_TRY_WITH(call(library_.launch(handle_), "start"),
                   "libguestfs's appliance (LIBGUESTFS_DEBUG=1 tells more)");
    const pid_t pid = library_.get_pid(handle_);
    watcher_ = std::jthread([this, pid](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        if (cancel_.fired() && pid > 0) {
          ::kill(pid, SIGKILL);
          return;
        }
        ignore_error(CancelToken(stop).sleep_for(std::chrono::milliseconds(200)), "asked again");
      }
    });
    return {};
  }

  GuestFiles& files() override { return files_; }

  Result<GuestFacts> open_guest() override {
    GuestFacts facts;
    RECLO_TRY(find_volumes(facts));
    RECLO_ASSIGN_OR_RETURN(const std::string root, find_root(facts));
    RECLO_TRY(mount(root, "/"));
    facts.mounts.push_back({root, "/"});
    RECLO_TRY(read_release(facts));
    RECLO_TRY(mount_others(facts));
    RECLO_TRY(find_esp(facts));
    return facts;
  }

  Status finish() override {
    RECLO_TRY(call(library_.umount_all(handle_), "unmount"));
    RECLO_TRY(call(library_.sync(handle_), "sync"));
    watcher_ = {};
    return call(library_.shutdown(handle_), "end the appliance");
  }

 private:
  Status call(int answer, const std::string& what) {
    if (answer >= 0) return {};
    RECLO_TRY(cancel_.check());
    return guestfs_error(library_, handle_, what);
  }

  Status mount(const std::string& device, const std::string& folder) {
    return call(library_.mount_options(handle_, "", device.c_str(), folder.c_str()),
                fmt::format("mount {} as {}", device, folder));
  }

  Status find_volumes(GuestFacts& facts) {
    const std::vector<std::string> list = take_list(library_.list_filesystems(handle_));
    for (size_t i = 0; i + 1 < list.size(); i += 2) {
      if (list[i].starts_with("btrfsvol:")) {
        subvolumes_.push_back(list[i]);
        continue;
      }
      add_volume(facts, list[i], list[i + 1]);
    }
    for (const std::string& device : take_list(library_.list_partitions(handle_)))
      if (facts.volume(device) == nullptr) add_volume(facts, device, "unknown");
    return cancel_.check();
  }

  void add_volume(GuestFacts& facts, const std::string& device, const std::string& type) {
    GuestVolume volume;
    volume.device = device;
    volume.type = type;
    const std::vector<std::string> known = take_list(library_.blkid(handle_, device.c_str()));
    for (size_t i = 0; i + 1 < known.size(); i += 2) {
      if (known[i] == "TYPE") volume.type = known[i + 1];
      if (known[i] == "UUID") volume.uuid = known[i + 1];
      if (known[i] == "LABEL") volume.label = known[i + 1];
      if (known[i] == "PART_ENTRY_UUID") volume.part_uuid = known[i + 1];
    }
    if (device.starts_with("/dev/sd")) {
      const int number = library_.part_to_partnum(handle_, device.c_str());
      char* const disk = library_.part_to_dev(handle_, device.c_str());
      if (number > 0) volume.partition = number;
      volume.disk = library_.device_index(handle_, disk != nullptr ? disk : device.c_str());
      ::free(disk);
    }
    facts.volumes.push_back(std::move(volume));
  }

  // Looks at each file system for a root.
  Result<std::string> find_root(GuestFacts& facts) {
    std::vector<std::string> candidates = subvolumes_;
    for (const GuestVolume& volume : facts.volumes)
      for (const std::string_view type : {"ext2", "ext3", "ext4", "xfs", "btrfs", "ntfs"})
        if (volume.type == type) candidates.push_back(volume.device);
    std::vector<std::string> roots;
    bool windows = false;
    for (const std::string& device : candidates) {
      RECLO_TRY(cancel_.check());
      const Status mounted = mount(device, "/");
      if (!mounted.ok()) {
        facts.notes.push_back(mounted.error().message());
        continue;
      }
      RECLO_ASSIGN_OR_RETURN(const bool fstab, exists(files_, "/etc/fstab"));
      RECLO_ASSIGN_OR_RETURN(const bool accounts, exists(files_, "/etc/passwd"));
      RECLO_ASSIGN_OR_RETURN(const bool registry, exists(files_, "/Windows/System32"));
      windows = windows || registry;
      if (fstab && accounts) roots.push_back(device);
      RECLO_TRY(call(library_.umount_all(handle_), "unmount"));
    }
    if (roots.empty()) return no_root(facts, windows);
    for (size_t i = 1; i < roots.size(); ++i)
      facts.notes.push_back(
          fmt::format("there is another system on {}: it is left as it is", roots[i]));
    return roots.front();
  }

  static Error no_root(const GuestFacts& facts, bool windows) {
    if (windows)
      return Error(Code::kUnsupported,
                   "this is Windows: it cannot be prepared yet, only Linux can");
    for (const GuestVolume& volume : facts.volumes)
      if (volume.type == "crypto_LUKS" || volume.type == "BitLocker")
        return Error(
            Code::kUnsupported,
            fmt::format("{} is encrypted ({}) and its key is not in the backup: the server "
                        "cannot be looked into. It starts elsewhere only if its own system "
                        "has the drivers and somebody types the key",
                        volume.device, volume.type));
    std::string seen;
    for (const GuestVolume& volume : facts.volumes)
      seen += fmt::format("{}{} ({})", seen.empty() ? "" : ", ", volume.device, volume.type);
    std::string text = fmt::format("no Linux root file system was found among {}",
                                   seen.empty() ? "no volumes at all" : seen);
    for (const std::string& note : facts.notes) text += "; " + note;
    return Error(Code::kUnsupported, text);
  }

  Status read_release(GuestFacts& facts) {
    for (const char* path : {"/etc/os-release", "/usr/lib/os-release"}) {
      RECLO_ASSIGN_OR_RETURN(const auto text, read_text(files_, path));
      if (!text) continue;
      read_os_release(*text, facts);
      return {};
    }
    facts.system = "an unnamed Linux";
    return {};
  }

  Status mount_others(GuestFacts& facts) {
    RECLO_ASSIGN_OR_RETURN(const auto fstab, read_text(files_, "/etc/fstab"));
    std::vector<FstabLine> lines = parse_fstab(fstab.value_or(""));
    std::stable_sort(lines.begin(), lines.end(), [](const FstabLine& a, const FstabLine& b) {
      return a.fields[1].size() < b.fields[1].size();  // "/boot" before "/boot/efi"
    });
    for (const FstabLine& line : lines) {
      const std::string& folder = line.fields[1];
      if (!is_needed(folder) || facts.mounts.size() >= kMountsMax) continue;
      const GuestVolume* const volume = resolve_device(facts, line.fields[0]);
      std::string device = volume != nullptr ? volume->device : "";
      for (const std::string& subvolume : subvolumes_)
        if (volume != nullptr && subvolume.starts_with("btrfsvol:" + device + "/") &&
            line.fields[3].find("subvol") != std::string::npos &&
            (line.fields[3] + ",").find(subvolume.substr(10 + device.size()) + ",") !=
                std::string::npos)
          device = subvolume;
      const Status mounted = volume == nullptr ? Status(Error(Code::kNotFound, "no such volume"))
                                               : mount(device, folder);
      if (mounted.ok())
        facts.mounts.push_back({device, folder});
      else
        facts.notes.push_back(fmt::format("{} ({}) was not mounted: {}", folder, line.fields[0],
                                          mounted.error().message()));
    }
    return {};
  }

  // The EFI system partition: where fstab has it, else over /mnt, so that no folder is made.
  Status find_esp(GuestFacts& facts) {
    for (const char* folder : {"/boot/efi", "/efi", "/boot"}) {
      RECLO_ASSIGN_OR_RETURN(const bool there, exists(files_, folder + std::string("/EFI")));
      if (!there || !facts.esp_folder.empty()) continue;
      facts.esp_folder = folder;
    }
    RECLO_ASSIGN_OR_RETURN(const bool has_mnt, exists(files_, "/mnt"));
    for (const GuestVolume& volume : facts.volumes) {
      if (!facts.esp_folder.empty() || !has_mnt || volume.type != "vfat" || volume.disk != 0)
        continue;
      if (!mount(volume.device, "/mnt").ok()) continue;
      RECLO_ASSIGN_OR_RETURN(const bool there, exists(files_, "/mnt/EFI"));
      if (there) {
        facts.esp_folder = "/mnt";
        facts.mounts.push_back({volume.device, "/mnt"});
      } else {
        RECLO_TRY(call(library_.umount_opts_argv(handle_, "/mnt", nullptr), "unmount"));
      }
    }
    return {};
  }

  const GuestfsLibrary& library_;
  guestfs_h* handle_;
  CancelToken cancel_;
  GuestfsFiles files_;
  std::vector<std::string> subvolumes_;
  std::jthread watcher_;
};

}  // namespace

Result<std::unique_ptr<GuestfsSession>> GuestfsSession::start(const std::vector<SessionDisk>& disks,
                                                              const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const GuestfsLibrary* const library, guestfs_library());
  RECLO_TRY(check_kernel());
  guestfs_h* const handle = library->create();
  if (handle == nullptr) return Error(Code::kInternal, "libguestfs makes no handle");
  auto session = std::make_unique<Session>(*library, handle, cancel);
  RECLO_TRY(session->launch(disks));
  return std::unique_ptr<GuestfsSession>(std::move(session));
}

}  // namespace reclo::recovery
