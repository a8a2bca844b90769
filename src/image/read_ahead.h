// Notices sequential reads and says which segments to fetch ahead of them.
//
// NBD clients keep many requests in flight on several connections, so a "sequential" reader's
// requests arrive in almost any order within a MiB or two: a stream is followed by its front, with
// a tolerance on both sides.
// Thread rule: safe from any thread.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>

namespace reclo::image {

struct SegmentSpan {
  uint64_t first = 0;
  uint64_t end = 0;  // exclusive
  bool empty() const { return first >= end; }
};

class ReadAhead {
 public:
  /// The window of a stream doubles from one segment to `segments_max`; all streams that are alive
  /// at the moment share `segments_max`.
  explicit ReadAhead(uint32_t segments_max) : segments_max_(segments_max) {}

  /// To be called for each read; the answer is mostly empty.
  SegmentSpan on_read(uint64_t offset_bytes, uint64_t size_bytes);

 private:
  struct Stream {
    uint64_t front_bytes = 0;  // where its next read is expected
    uint64_t run_bytes = 0;    // how far it went
    uint64_t ahead_end = 0;    // segments below this were asked for
    uint32_t window = 0;       // segments; 0: not sequential yet
    uint64_t last_use = 0;     // 0: never used
  };
  Stream* find(uint64_t offset_bytes, uint64_t size_bytes);
  uint32_t active_streams() const;

  const uint32_t segments_max_;
  std::mutex mutex_;
  uint64_t clock_ = 0;
  std::array<Stream, 16> streams_;
};

}  // namespace reclo::image
