// The messages of the QEMU Machine Protocol: one JSON object a line.
// Source: QEMU's docs/interop/qmp-spec.txt. Values; any thread.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace reclo::recovery {

inline constexpr size_t kQmpLineSizeBytesMax = size_t{4} << 20;

struct QmpMessage {
  enum class Kind { kGreeting, kReturn, kError, kEvent };
  Kind kind = Kind::kEvent;
  std::optional<uint64_t> id;  // of the command that a return or an error answers
  std::string name;            // an event's name, an error's class
  std::string text;            // an error's description
  nlohmann::json data;         // a return's value, an event's data
};

/// Errors: kCorruption for anything that is not such a message.
Result<QmpMessage> parse_qmp_line(std::string_view line);

/// Cuts a byte stream into lines of at most kQmpLineSizeBytesMax.
class LineBuffer {
 public:
  /// Errors: kCorruption when a line is longer than any valid one; the stream is then unusable.
  Status append(std::string_view bytes);
  /// The next whole line without its end, or nothing yet.
  std::optional<std::string> pop();

 private:
  std::string buffer_;
  size_t searched_ = 0;  // no line end before this place
};

}  // namespace reclo::recovery
