#include "store/s3_xml.h"

#include <fmt/format.h>

#include <charconv>
#include <pugixml.hpp>

#include "net/url.h"

namespace reclo::store {
namespace {

constexpr size_t kTextSizeBytesMax = 2048;  // of an error's message
constexpr size_t kEntriesMax = 10'000;      // of a page; S3 sends at most 1,000

Error bad_list(std::string_view why) {
  return Error(Code::kUnavailable, fmt::format("the store's list cannot be read: {}", why));
}

bool load(pugi::xml_document& document, ByteSpan xml) {
  return static_cast<bool>(document.load_buffer(xml.data(), xml.size(),
                                                pugi::parse_default | pugi::parse_ws_pcdata_single,
                                                pugi::encoding_utf8));
}

Result<std::string> decoded(const pugi::xml_node& node, bool url_encoded) {
  const std::string text = node.text().get();
  if (!url_encoded) return text;
  return net::percent_decode(text);
}

Result<ObjectInfo> parse_entry(const pugi::xml_node& node, bool url_encoded) {
  ObjectInfo info;
  RECLO_ASSIGN_OR_RETURN(info.key, decoded(node.child("Key"), url_encoded));
  if (info.key.empty()) return bad_list("an entry without key");
  const std::string_view size = node.child("Size").text().get();
  const auto parsed = std::from_chars(size.data(), size.data() + size.size(), info.size_bytes);
  if (parsed.ec != std::errc() || parsed.ptr != size.data() + size.size())
    return bad_list("an entry without size");
  RECLO_ASSIGN_OR_RETURN(info.modified, parse_time(node.child("LastModified").text().get()));
  return info;
}

std::string bounded(std::string text) {
  if (text.size() > kTextSizeBytesMax) text.resize(kTextSizeBytesMax);
  return text;
}

}  // namespace

Result<S3ListPage> parse_s3_list(ByteSpan xml) {
  pugi::xml_document document;
  if (!load(document, xml)) return bad_list("not XML");
  const pugi::xml_node root = document.document_element();
  if (std::string_view(root.name()) != "ListBucketResult") return bad_list("no ListBucketResult");
  const bool url_encoded = std::string_view(root.child("EncodingType").text().get()) == "url";
  S3ListPage page;
  for (const pugi::xml_node node : root.children()) {
    const std::string_view name = node.name();
    if (name == "Contents") {
      RECLO_ASSIGN_OR_RETURN(ObjectInfo info, parse_entry(node, url_encoded));
      page.objects.push_back(std::move(info));
    } else if (name == "CommonPrefixes") {
      RECLO_ASSIGN_OR_RETURN(std::string prefix, decoded(node.child("Prefix"), url_encoded));
      page.common_prefixes.push_back(std::move(prefix));
    }
    if (page.objects.size() + page.common_prefixes.size() > kEntriesMax)
      return bad_list("too many entries");
  }
  if (std::string_view(root.child("IsTruncated").text().get()) == "true") {
    page.next_token = root.child("NextContinuationToken").text().get();
    if (page.next_token.empty()) return bad_list("it goes on, but does not say where");
  }
  return page;
}

S3ErrorBody parse_s3_error(ByteSpan xml) {
  pugi::xml_document document;
  if (xml.empty() || !load(document, xml)) return {};
  const pugi::xml_node root = document.document_element();
  if (std::string_view(root.name()) != "Error") return {};
  return {bounded(root.child("Code").text().get()), bounded(root.child("Message").text().get()),
          bounded(root.child("Region").text().get())};
}

Result<std::string> parse_s3_upload_id(ByteSpan xml) {
  pugi::xml_document document;
  std::string id;
  if (load(document, xml)) id = document.document_element().child("UploadId").text().get();
  if (id.empty() || id.size() > kTextSizeBytesMax)
    return Error(Code::kUnavailable, "the store began an upload and gave no id for it");
  return id;
}

}  // namespace reclo::store
