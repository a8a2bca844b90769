// How a standby goes: the old one after the new one stands, what nobody knows of, and all of it.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "recovery/ec2/standby.h"

namespace reclo::recovery {

Status StandbyKeeper::remove(const Standby& standby, const CancelToken& cancel) {
  if (!standby.image.empty()) RECLO_TRY(ec2_.deregister_image(standby.image, cancel));
  for (const StandbyDisk& disk : standby.disks) {
    if (disk.snapshot.empty()) continue;
    RECLO_TRY(ec2_.delete_snapshot(disk.snapshot, cancel));
    RECLO_TRY(os::remove_file(log_path(disk.snapshot)));
  }
  return {};
}

// The instance that was started from it: bringing that home compares with these snapshots.
Result<std::optional<cloud::Instance>> StandbyKeeper::user_of(const Standby& standby,
                                                              const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(
      std::vector<cloud::Instance> found,
      ec2_.instances({{"image-id", {standby.image.text()}},
                      {"instance-state-name", {"pending", "running", "stopping", "stopped"}}},
                     cancel));
  if (found.empty()) return std::optional<cloud::Instance>();
  return std::optional(std::move(found.front()));
}

// What an instance still runs from is kept, and tried again at the next refresh.
Result<bool> StandbyKeeper::remove_unless_used(const Standby& standby,
                                               std::vector<std::string>& notes,
                                               const CancelToken& cancel) {
  if (!standby.image.empty()) {
    RECLO_ASSIGN_OR_RETURN(const auto user, user_of(standby, cancel));
    if (user) {
      notes.push_back(
          fmt::format("the standby {} is kept: {} was started from it and needs it "
                      "for its way home",
                      standby.image.text(), user->id.text()));
      return false;
    }
  }
  RECLO_TRY(remove(standby, cancel));
  return true;
}

Status StandbyKeeper::remove_old(std::vector<std::string>& notes, const CancelToken& cancel) {
  Status first_failure;
  // Interrupted attempts have no image and are no use to keep.
  std::vector<Standby> kept;
  size_t usable = static_cast<size_t>(
      std::count_if(record_.old.begin(), record_.old.end(),
                    [](const Standby& standby) { return !standby.image.empty(); }));
  for (const Standby& standby : record_.old) {
    const bool keep = !standby.image.empty() && usable <= options_.keep_old;
    if (!standby.image.empty()) --usable;
    const Result<bool> gone =
        keep ? Result<bool>(false) : remove_unless_used(standby, notes, cancel);
    if (!gone.ok() || !*gone) kept.push_back(standby);
    if (!gone.ok() && first_failure.ok()) first_failure = Error(gone.error());
  }
  if (kept != record_.old) {
    record_.old = std::move(kept);
    RECLO_TRY(save());
  }
  return first_failure;
}

// Snapshots and images with our tags that no attempt knows: started, and this machine died before
// their ids could be noted. Without a keeper also those of other machines that kept this standby.
Status StandbyKeeper::remove_strangers(const std::string& keeper, const CancelToken& cancel) {
  std::set<std::string> known;
  const auto remember = [&](const Standby& standby) {
    known.insert(standby.image.text());
    for (const StandbyDisk& disk : standby.disks) known.insert(disk.snapshot.text());
  };
  if (record_.current) remember(*record_.current);
  if (record_.pending) remember(*record_.pending);
  for (const Standby& standby : record_.old) remember(standby);
  cloud::Filters ours = {{fmt::format("tag:{}", kStandbyMachineTag), {record_.machine.hex()}},
                         {"tag:reclo-repository", {options_.repository}},
                         {"tag:reclo-role", {"standby"}}};
  if (!keeper.empty()) ours.push_back({fmt::format("tag:{}", kStandbyKeeperTag), {keeper}});
  RECLO_ASSIGN_OR_RETURN(const auto images, ec2_.images(ours, cancel));
  for (const cloud::Image& image : images)
    if (!known.contains(image.id.text())) RECLO_TRY(ec2_.deregister_image(image.id, cancel));
  RECLO_ASSIGN_OR_RETURN(const auto snapshots, ec2_.snapshots(ours, cancel));
  for (const cloud::Snapshot& snapshot : snapshots)
    if (!known.contains(snapshot.id.text())) RECLO_TRY(ec2_.delete_snapshot(snapshot.id, cancel));
  return {};
}

Status StandbyKeeper::drop(const CancelToken& cancel) {
  for (std::optional<Standby>* standby : {&record_.pending, &record_.current}) {
    if (*standby) record_.old.push_back(**standby);
    standby->reset();
  }
  RECLO_TRY(save());
  for (const Standby& standby : record_.old) RECLO_TRY(remove(standby, cancel));
  record_.old.clear();
  RECLO_TRY(remove_strangers("", cancel));
  return os::remove_file(os::join_path(folder_, kStandbyRecordFile));
}

}  // namespace reclo::recovery
