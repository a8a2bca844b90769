// A server's standby in EC2: its newest recovery point as EBS snapshots and a registered image, so
// that a failover only has to start it.
//
// refresh: child snapshots with the blocks that changed since the last standby (or whole ones),
// completed, read back at random, registered; only then is the old standby removed. The order of
// writes makes every step safe to repeat:
//   standby.json names the attempt ─▶ snapshots are started with that attempt's client token ─▶
//   their ids are noted ─▶ blocks are put, each noted after it was acknowledged ─▶ completed ─▶ the
//   image is registered under the attempt's name ─▶ standby.json makes it current ─▶ the old one is
//   removed, unless an instance that was started from it still is on its way home.
// A crash anywhere leaves either the attempt in standby.json, or tagged snapshots of an attempt
// that it does not know, which the next refresh removes.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/progress.h"
#include "cloud/ebs_client.h"
#include "cloud/ec2_client.h"
#include "disk/block_source.h"
#include "os/file.h"
#include "recovery/ec2/snapshot_writer.h"
#include "recovery/ec2/standby_record.h"

namespace reclo::recovery {

inline constexpr const char* kStandbyRecordFile = "standby.json";
inline constexpr const char* kStandbyMachineTag = "reclo-machine";
inline constexpr const char* kStandbyKeeperTag = "reclo-keeper";

/// A recovery point's disks, readable; what a refresh needs to know of the repository.
class StandbySource {
 public:
  virtual ~StandbySource() = default;
  virtual PointId point() const = 0;
  virtual WallTime point_time() const = 0;
  virtual std::vector<uint64_t> disk_sizes_bytes() const = 0;
  virtual Status read(uint32_t disk, uint64_t offset_bytes, MutableByteSpan out,
                      const CancelToken& cancel) = 0;
  /// Where the disk holds data.
  virtual Result<std::vector<disk::Range>> data(uint32_t disk, const CancelToken& cancel) = 0;
  /// Whether an earlier point of this server is still there to be compared with.
  virtual Result<bool> knows(const PointId& earlier, const CancelToken& cancel) = 0;
  /// Where it differs from the same disk of an earlier point that it knows.
  virtual Result<std::vector<disk::Range>> changed_since(const PointId& earlier, uint32_t disk,
                                                         const CancelToken& cancel) = 0;
  /// What prepares the point for EC2 (recovery/guest/prepared_overlay.h); empty: nothing.
  virtual std::string overlay_id() const { return {}; }
  /// Where read() gives another content than the point itself has.
  virtual std::vector<disk::Range> overlay_ranges(uint32_t) const { return {}; }
};

struct StandbyOptions {
  std::string state_directory;
  std::string repository;  // its id, in hex
  std::string server;
  MachineId machine;
  size_t keep_old = 0;  // how many standbys are kept beside the current one
  size_t threads = 32;
  size_t read_back_blocks = 16;
  bool full = false;  // trust no lineage
  std::chrono::milliseconds completion_patience{std::chrono::minutes(30)};
};

struct StandbyReport {
  Standby standby;
  bool unchanged = false;  // it held this point already
  bool full = false;       // at least one disk was put as a whole
  uint64_t blocks_put = 0;
  uint64_t blocks_resumed = 0;
  uint64_t blocks_read_back = 0;
  std::vector<std::string> warnings;
};

class StandbyKeeper {
 public:
  /// Takes the standby's lock. Errors: kConflict while another refresh of this server runs.
  static Result<StandbyKeeper> open(cloud::EbsClient& ebs, cloud::Ec2Client& ec2,
                                    StandbyOptions options);

  Result<StandbyReport> refresh(StandbySource& source, ProgressSink& progress,
                                const CancelToken& cancel);
  /// Removes everything that belongs to the server's standby, also what other machines made.
  Status drop(const CancelToken& cancel);
  const StandbyRecord& record() const { return record_; }

 private:
  StandbyKeeper(cloud::EbsClient& ebs, cloud::Ec2Client& ec2, StandbyOptions options,
                std::string folder, os::FileLock lock)
      : ebs_(ebs),
        ec2_(ec2),
        options_(std::move(options)),
        folder_(std::move(folder)),
        lock_(std::move(lock)) {}

  Status save();
  Status begin_attempt(StandbySource& source, StandbyReport& report, const CancelToken& cancel);
  Status refresh_disk(StandbySource& source, size_t disk, StandbyReport& report,
                      ProgressSink& progress, const CancelToken& cancel);
  Result<std::vector<BlockSpan>> spans_of(StandbySource& source, const StandbyDisk& disk,
                                          const CancelToken& cancel);
  Status read_back(StandbySource& source, const StandbyDisk& disk,
                   const std::vector<BlockSpan>& spans, StandbyReport& report,
                   const CancelToken& cancel);
  Status find_boot_mode(StandbySource& source, const CancelToken& cancel);
  Status register_image(const CancelToken& cancel);
  Status remove(const Standby& standby, const CancelToken& cancel);
  Result<std::optional<cloud::Instance>> user_of(const Standby& standby, const CancelToken& cancel);
  Result<bool> remove_unless_used(const Standby& standby, std::vector<std::string>& notes,
                                  const CancelToken& cancel);
  Status remove_old(std::vector<std::string>& notes, const CancelToken& cancel);
  Status remove_strangers(const std::string& keeper, const CancelToken& cancel);
  cloud::Tags tags(const Standby& standby) const;
  std::string log_path(const cloud::SnapshotId& snapshot) const;

  cloud::EbsClient& ebs_;
  cloud::Ec2Client& ec2_;
  StandbyOptions options_;
  std::string folder_;
  os::FileLock lock_;
  StandbyRecord record_;
};

/// The record without the lock, for showing. Nothing when there is no standby.
Result<std::optional<StandbyRecord>> load_standby(const std::string& state_directory,
                                                  const std::string& repository,
                                                  const MachineId& machine);

}  // namespace reclo::recovery
