// How long work tells its caller how far it is. The sink decides how to show it (a bar on a
// terminal, JSON lines, nothing). Calls may come from any thread, some thousand times a second:
// sinks throttle, not callers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace reclo {

struct ProgressUpdate {
  std::string_view stage;   // what is being done now: "reading", "uploading"
  uint64_t done_bytes = 0;  // of total_bytes; 0 of 0 when not known
  uint64_t total_bytes = 0;
  uint64_t uploaded_bytes = 0;  // sent to or fetched from the store so far
  std::string_view detail;      // a short free text, may be empty
};

class ProgressSink {
 public:
  virtual ~ProgressSink() = default;
  virtual void update(const ProgressUpdate& update) = 0;
  /// A milestone worth a line of its own ("snapshot taken").
  virtual void note(std::string_view text) = 0;
};

/// Shows nothing.
class NullProgress final : public ProgressSink {
 public:
  void update(const ProgressUpdate&) override {}
  void note(std::string_view) override {}
};

}  // namespace reclo
