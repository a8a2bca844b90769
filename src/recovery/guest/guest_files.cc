#include "recovery/guest/guest_files.h"

namespace reclo::recovery {

Result<std::optional<std::string>> read_text(GuestFiles& files, const std::string& path) {
  const auto content = files.read(path, kGuestTextSizeBytesMax);
  if (content.ok()) return std::optional<std::string>(std::string(as_text(*content)));
  if (content.error().code() == Code::kNotFound) return std::optional<std::string>();
  return content.error();
}

Result<bool> exists(GuestFiles& files, const std::string& path) {
  RECLO_ASSIGN_OR_RETURN(const auto facts, files.stat(path));
  return facts.has_value();
}

}  // namespace reclo::recovery
