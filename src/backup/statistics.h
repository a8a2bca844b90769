// Where a backup's time and bytes go: counters that the stages add to from any thread.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <string_view>

namespace reclo::backup {

enum class Stage : size_t { kRead, kHash, kCompress, kCheck, kSeal, kUpload };
inline constexpr std::array<std::string_view, 6> kStageNames = {"read",  "hash", "compress",
                                                                "check", "seal", "upload"};

struct Statistics {
  std::array<std::atomic<uint64_t>, kStageNames.size()> busy_ns{};
  std::atomic<uint64_t> read_bytes = 0;
  std::atomic<uint64_t> allocated_bytes = 0;  // pages that are no holes
  std::atomic<uint64_t> new_bytes = 0;        // raw bytes stored by this point
  std::atomic<uint64_t> stored_bytes = 0;     // sealed data
  std::atomic<uint64_t> map_bytes = 0;        // sealed map nodes
  std::atomic<uint64_t> uploaded_bytes = 0;
  std::atomic<uint64_t> put_requests = 0;
  std::atomic<uint64_t> damaged_memories = 0;  // segments whose page tags were damaged
};

/// Adds the time of a scope to a stage.
class StageTimer {
 public:
  StageTimer(Statistics& statistics, Stage stage)
      : counter_(statistics.busy_ns[static_cast<size_t>(stage)]),
        start_(std::chrono::steady_clock::now()) {}
  ~StageTimer() {
    counter_ += static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                          std::chrono::steady_clock::now() - start_)
                                          .count());
  }
  StageTimer(const StageTimer&) = delete;
  StageTimer& operator=(const StageTimer&) = delete;

 private:
  std::atomic<uint64_t>& counter_;
  const std::chrono::steady_clock::time_point start_;
};

}  // namespace reclo::backup
