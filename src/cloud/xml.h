// Reading the XML that Query services answer with: found by name, namespaces ignored, and whatever
// is missing or too much is an error rather than a guess. For .cc files of this module only.
#pragma once

#include <memory>
#include <pugixml.hpp>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace reclo::cloud {

/// Errors: kUnavailable with `what` named when it is no XML, or nested deeper than any answer is.
Result<std::unique_ptr<pugi::xml_document>> parse_xml(ByteSpan xml, std::string_view what);

/// A child's text; empty when it is not there.
std::string xml_text(const pugi::xml_node& node, const char* child);
/// A child's text. Errors: kUnavailable when it is missing or empty.
Result<std::string> xml_required(const pugi::xml_node& node, const char* child);
/// A child's number; 0 when it is not there. Errors: kUnavailable when it is no number.
Result<uint64_t> xml_number(const pugi::xml_node& node, const char* child);
bool xml_bool(const pugi::xml_node& node, const char* child);

}  // namespace reclo::cloud
