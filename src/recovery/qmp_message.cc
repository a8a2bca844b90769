#include "recovery/qmp_message.h"

#include "base/json.h"

namespace reclo::recovery {

Result<QmpMessage> parse_qmp_line(std::string_view line) {
  RECLO_ASSIGN_OR_RETURN(Json json, parse_json(line, "QMP message", kQmpLineSizeBytesMax));
  if (!json.is_object()) return Error(Code::kCorruption, "QMP message: not an object");
  QmpMessage out;
  if (json.contains("id") && json["id"].is_number_unsigned()) out.id = json["id"].get<uint64_t>();
  if (json.contains("QMP")) {
    out.kind = QmpMessage::Kind::kGreeting;
    out.data = std::move(json["QMP"]);
    return out;
  }
  if (json.contains("event")) {
    out.kind = QmpMessage::Kind::kEvent;
    RECLO_ASSIGN_OR_RETURN(out.name, json_get<std::string>(json, "event"));
    if (json.contains("data")) out.data = std::move(json["data"]);
    return out;
  }
  if (json.contains("error")) {
    out.kind = QmpMessage::Kind::kError;
    RECLO_ASSIGN_OR_RETURN(const Json* error, json_object(json, "error"));
    RECLO_ASSIGN_OR_RETURN(out.name, json_get<std::string>(*error, "class"));
    RECLO_ASSIGN_OR_RETURN(out.text, json_get<std::string>(*error, "desc"));
    return out;
  }
  if (json.contains("return")) {
    out.kind = QmpMessage::Kind::kReturn;
    out.data = std::move(json["return"]);
    return out;
  }
  return Error(Code::kCorruption, "QMP message: of no known kind");
}

Status LineBuffer::append(std::string_view bytes) {
  buffer_.append(bytes);
  if (buffer_.size() > kQmpLineSizeBytesMax && buffer_.find('\n', searched_) == std::string::npos)
    return Error(Code::kCorruption, "QMP: a line that is longer than any valid message");
  return {};
}

std::optional<std::string> LineBuffer::pop() {
  const size_t end = buffer_.find('\n', searched_);
  if (end == std::string::npos) {
    searched_ = buffer_.size();
    return std::nullopt;
  }
  std::string line = buffer_.substr(0, end);
  if (!line.empty() && line.back() == '\r') line.pop_back();
  buffer_.erase(0, end + 1);
  searched_ = 0;
  return line;
}

}  // namespace reclo::recovery
