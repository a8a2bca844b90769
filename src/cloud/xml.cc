#include "cloud/xml.h"

#include <fmt/format.h>

#include <charconv>

namespace reclo::cloud {
namespace {

constexpr int kDepthMax = 32;
constexpr size_t kTextSizeMax = size_t{1} << 20;  // a console's output is 64 KiB

Error bad_xml(std::string_view what, std::string_view why) {
  return Error(Code::kUnavailable, fmt::format("{} cannot be read: {}", what, why));
}

// pugixml parses without recursion, but what walks a tree may not.
bool deeper_than(const pugi::xml_node& node, int depth) {
  if (depth == 0) return true;
  for (const pugi::xml_node child : node.children())
    if (deeper_than(child, depth - 1)) return true;
  return false;
}

}  // namespace

Result<std::unique_ptr<pugi::xml_document>> parse_xml(ByteSpan xml, std::string_view what) {
  auto document = std::make_unique<pugi::xml_document>();
  const auto parsed =
      document->load_buffer(xml.data(), xml.size(), pugi::parse_default, pugi::encoding_utf8);
  if (!parsed) return bad_xml(what, parsed.description());
  if (deeper_than(*document, kDepthMax)) return bad_xml(what, "it is nested too deeply");
  return document;
}

std::string xml_text(const pugi::xml_node& node, const char* child) {
  std::string text = node.child(child).text().get();
  if (text.size() > kTextSizeMax) text.resize(kTextSizeMax);
  return text;
}

Result<std::string> xml_required(const pugi::xml_node& node, const char* child) {
  std::string text = xml_text(node, child);
  if (text.empty()) return bad_xml(node.name(), fmt::format("it has no {}", child));
  return text;
}

Result<uint64_t> xml_number(const pugi::xml_node& node, const char* child) {
  const std::string text = xml_text(node, child);
  if (text.empty()) return uint64_t{0};
  uint64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size())
    return bad_xml(node.name(), fmt::format("its {} is no number", child));
  return value;
}

bool xml_bool(const pugi::xml_node& node, const char* child) {
  return xml_text(node, child) == "true";
}

}  // namespace reclo::cloud
