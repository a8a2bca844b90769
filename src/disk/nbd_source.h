// A disk image in one of QEMU's formats, read through a qemu-nbd of its own.
//
// The child serves the image read-only on a Unix socket in a private folder (0700) and ends with
// this object, or with this process. Reads go through a pool of connections, one for each thread
// that reads at the moment, up to kNbdConnectionsMax.
// Thread rule: safe from any thread.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/task_pool.h"
#include "disk/block_source.h"
#include "os/file.h"
#include "os/subprocess.h"

struct nbd_handle;

namespace reclo::disk {

inline constexpr size_t kNbdConnectionsMax = 8;

class NbdSource final : public BlockSource {
 public:
  /// `real_path` is absolute. `shown_path` is how the user called it.
  static Result<std::unique_ptr<NbdSource>> open(const std::string& real_path,
                                                 const std::string& shown_path,
                                                 const std::string& format,
                                                 const CancelToken& cancel);
  ~NbdSource() override;

  uint64_t size_bytes() const override { return size_bytes_; }
  Status read_at(uint64_t offset_bytes, MutableByteSpan out) override;
  Result<std::vector<Range>> data_ranges(Range range) override;
  std::string path() const override { return path_; }
  std::string format() const override { return format_; }

 private:
  struct CloseHandle {
    void operator()(nbd_handle* handle) const;
  };
  using Handle = std::unique_ptr<nbd_handle, CloseHandle>;

  NbdSource(std::string path, std::string format, os::TempDir folder);
  Status start_server(const std::string& real_path, const CancelToken& cancel);
  Status connect_first(const CancelToken& cancel);
  Result<Handle> connect() const;
  Result<Handle> borrow();
  void give_back(Handle handle, bool usable);
  Error failed(uint64_t offset_bytes, std::string_view what) const;
  std::string server_log() const;

  const std::string path_;
  const std::string format_;
  const os::TempDir folder_;
  uint64_t size_bytes_ = 0;
  bool can_tell_holes_ = false;

  // The child is told to die with the thread that started it, so that thread must live as long.
  std::optional<os::Subprocess> server_;
  TaskPool parent_thread_{1};

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Handle> idle_;  // guarded by mutex_
  size_t open_count_ = 0;     // guarded by mutex_
};

}  // namespace reclo::disk
