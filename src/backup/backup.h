// A backup: from a server's disks to a committed recovery point. DESIGN §4, docs/architecture.md.
//
//   read → hash → (unchanged? stop) → compress → check          workers, one segment each
//                                          │ in address order
//                                     seal → pack → map          one assembler
//                                          │ whole packs
//                                        upload                  a few uploaders
//                                          │ all stored
//                                        commit
// Memory is fixed by the number of workers and queued packs, whatever the disk's size.
// Interrupted anywhere it leaves a journal; the next run of the same server and disks continues.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "backup/server_identity.h"
#include "base/progress.h"
#include "disk/allocation.h"
#include "repo/repository.h"

namespace reclo::backup {

struct BackupOptions {
  std::string server;
  std::vector<std::string> disks;
  std::string state_directory;
  bool full = false;          // trust no memory: hash everything, compare by identity
  int compression_level = 0;  // 0: adaptive; else fixed (zstd's scale)
  size_t workers = 0;         // 0: from the CPUs
  size_t upload_threads = 4;
  IdentityClaim identity;  // nothing known: any machine may append
};

struct BackupReport {
  repo::Point point;
  bool resumed = false;
  std::vector<std::string> warnings;  // for people: what could not be skipped, lost memories …
  std::vector<disk::Allocation> allocations;  // by disk
};

Result<BackupReport> run_backup(const repo::Repository& repository, const BackupOptions& options,
                                ProgressSink& progress, const CancelToken& cancel);

}  // namespace reclo::backup
