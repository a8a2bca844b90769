#include "image/read_ahead.h"

#include <algorithm>

#include "base/limits.h"

namespace reclo::image {
namespace {

constexpr uint64_t kToleranceBytes = 2 * kMiB;
// A run this long is taken for sequential.
constexpr uint64_t kRunBytesMin = 128 * kKiB;
// A stream that was not among this many last reads is not active.
constexpr uint64_t kActiveReads = 256;

}  // namespace

ReadAhead::Stream* ReadAhead::find(uint64_t offset_bytes, uint64_t size_bytes) {
  for (Stream& stream : streams_) {
    if (stream.last_use != 0 && offset_bytes <= stream.front_bytes + kToleranceBytes &&
        offset_bytes + size_bytes + kToleranceBytes >= stream.front_bytes)
      return &stream;
  }
  return nullptr;
}

uint32_t ReadAhead::active_streams() const {
  uint32_t count = 0;
  for (const Stream& stream : streams_)
    if (stream.window > 0 && stream.last_use + kActiveReads > clock_) ++count;
  return std::max(count, 1u);
}

SegmentSpan ReadAhead::on_read(uint64_t offset_bytes, uint64_t size_bytes) {
  if (segments_max_ == 0) return {};
  const std::lock_guard lock(mutex_);
  ++clock_;
  const uint64_t end_bytes = offset_bytes + size_bytes;
  Stream* stream = find(offset_bytes, size_bytes);
  if (stream == nullptr) {
    stream = &*std::min_element(
        streams_.begin(), streams_.end(),
        [](const Stream& a, const Stream& b) { return a.last_use < b.last_use; });
    *stream = {.front_bytes = end_bytes, .run_bytes = size_bytes, .last_use = clock_};
    return {};
  }
  stream->last_use = clock_;
  if (end_bytes <= stream->front_bytes) return {};
  stream->run_bytes += std::min(size_bytes, end_bytes - stream->front_bytes);
  stream->front_bytes = end_bytes;
  if (stream->run_bytes < kRunBytesMin) return {};

  const uint64_t current = (end_bytes - 1) / kSegmentSizeBytes;
  if (stream->window == 0) {
    stream->window = 1;
    stream->ahead_end = current;
  }
  const uint32_t window = std::max(1u, std::min(stream->window, segments_max_ / active_streams()));
  if (stream->ahead_end > current + (window + 1) / 2) return {};
  const SegmentSpan wanted{std::max(stream->ahead_end, current), current + 1 + window};
  stream->ahead_end = std::max(stream->ahead_end, wanted.end);
  stream->window = std::min(stream->window * 2, segments_max_);
  return wanted;
}

}  // namespace reclo::image
