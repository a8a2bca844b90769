#include "cloud/ebs_client.h"

#include <fmt/format.h>

#include "base/encoding.h"
#include "base/json.h"
#include "net/url.h"

namespace reclo::cloud {
namespace {

constexpr auto kVisibleAfter = std::chrono::minutes(2);
constexpr uint64_t kPageSizeBytesMax = 16 * kMiB;
constexpr std::string_view kResultsPerPage = "10000";

// {"Message": …, "Reason": …}; the type stands in a header, sometimes with more behind a colon.
struct EbsErrorBody {
  std::string type;
  std::string message;
  std::string reason;
};

EbsErrorBody parse_error(const net::HttpResponse& response) {
  EbsErrorBody out;
  const std::string_view type = response.header("x-amzn-errortype");
  out.type = type.substr(0, type.find(':'));
  const auto json = parse_json(as_text(response.body), "an error of EBS");
  if (!json.ok() || !json->is_object()) return out;
  // AWS spells it both ways.
  for (const char* name : {"Message", "message"})
    if (auto text = json_get<std::string>(*json, name); text.ok()) out.message = *text;
  if (auto text = json_get<std::string>(*json, "Reason"); text.ok()) out.reason = *text;
  return out;
}

std::string block_path(const SnapshotId& snapshot, uint32_t index) {
  return fmt::format("/snapshots/{}/blocks/{}", snapshot.text(), index);
}

Error bad_answer(std::string_view action, std::string_view why) {
  return Error(Code::kUnavailable, fmt::format("the answer to {} cannot be used: {}", action, why));
}

// Fetches page after page until one has no successor. A page may be empty and still have one.
template <class Fetch, class Visit>
Status for_each_page(std::string_view action, const Fetch& fetch, const Visit& visit) {
  std::string page;
  do {
    RECLO_ASSIGN_OR_RETURN(const net::HttpResponse response, fetch(page));
    RECLO_ASSIGN_OR_RETURN(const Json json, parse_json(as_text(response.body), action));
    RECLO_TRY_WITH(visit(json), std::string(action));
    RECLO_ASSIGN_OR_RETURN(std::string next, json_get_or<std::string>(json, "NextToken", ""));
    if (!next.empty() && next == page) return bad_answer(action, "its pages go in a circle");
    page = std::move(next);
  } while (!page.empty());
  return {};
}

Status check_ascending(std::optional<uint32_t>& last, uint32_t index, std::string_view action) {
  if (last && index <= *last) return bad_answer(action, "blocks are not in ascending order");
  last = index;
  return {};
}

}  // namespace

EbsClient::EbsClient(const ServiceOptions& options, const Rates& rates)
    : put_("ebs", options, std::make_shared<net::AdaptiveRate>(rates.put)),
      get_("ebs", options, std::make_shared<net::AdaptiveRate>(rates.get)),
      list_("ebs", options, std::make_shared<net::AdaptiveRate>(rates.list)),
      start_("ebs", options, std::make_shared<net::AdaptiveRate>(rates.start)),
      complete_("ebs", options, std::make_shared<net::AdaptiveRate>(rates.complete)),
      last_started_(std::chrono::steady_clock::time_point::min()) {}

Result<net::HttpResponse> EbsClient::send(Service& service, net::HttpRequest request,
                                          std::string_view action, const CancelToken& cancel) {
  const auto explain = [&](const net::HttpResponse& response) {
    const EbsErrorBody body = parse_error(response);
    std::string said = body.message;
    if (!body.reason.empty()) said += " (" + body.reason + ")";
    net::AwsRefusal out =
        word_refusal(service.options(), action, response.status, body.type, std::move(said));
    const auto last_started = last_started_.load();
    const bool may_become_visible = last_started != std::chrono::steady_clock::time_point::min() &&
                                    std::chrono::steady_clock::now() - last_started < kVisibleAfter;
    // Not when starting one: what is missing then is the parent, which is older.
    if (body.reason == "SNAPSHOT_NOT_FOUND" && may_become_visible && &service != &start_)
      out.retryable = true;
    // Two writers of one block, or a body that arrived too slowly: the same put again is right.
    if (body.reason == "CONFLICTING_BLOCK_UPDATE" || body.reason == "WRITE_REQUEST_TIMEOUT" ||
        body.message.find("Failed to read block data") != std::string::npos)
      out.retryable = true;
    return out;
  };
  return service.send(std::move(request), action, explain, cancel);
}

Result<SnapshotId> EbsClient::start(const StartSnapshot& wanted, const CancelToken& cancel) {
  constexpr std::string_view kAction = "ebs:StartSnapshot";
  Json json = {{"VolumeSize", wanted.volume_size_gib}, {"Timeout", wanted.timeout.count()}};
  if (wanted.parent) json["ParentSnapshotId"] = wanted.parent->text();
  if (!wanted.description.empty()) json["Description"] = wanted.description;
  if (!wanted.client_token.empty()) json["ClientToken"] = wanted.client_token;
  for (const auto& [key, value] : wanted.tags)
    json["Tags"].push_back({{"Key", key}, {"Value", value}});
  const std::string body = dump_json(json);
  net::HttpRequest request;
  request.method = "POST";
  request.url = "/snapshots";
  request.headers = {{"content-type", "application/json"}};
  request.body = as_bytes(body);
  RECLO_ASSIGN_OR_RETURN(const net::HttpResponse response,
                         send(start_, std::move(request), kAction, cancel));
  RECLO_ASSIGN_OR_RETURN(const Json answer, parse_json(as_text(response.body), kAction));
  RECLO_ASSIGN_OR_RETURN_WITH(const std::string id, json_get<std::string>(answer, "SnapshotId"),
                              std::string(kAction));
  RECLO_ASSIGN_OR_RETURN(const uint64_t block_size,
                         json_get_or<uint64_t>(answer, "BlockSize", kEbsBlockSizeBytes));
  if (block_size != kEbsBlockSizeBytes)
    return Error(Code::kUnsupported,
                 fmt::format("{} has blocks of {} bytes; ReClo writes {}",
                             start_.options().endpoint, block_size, kEbsBlockSizeBytes));
  last_started_ = std::chrono::steady_clock::now();
  return SnapshotId::parse(id);
}

Result<net::Sha256> EbsClient::put_block(const SnapshotId& snapshot, uint32_t index, ByteSpan block,
                                         const CancelToken& cancel) {
  RECLO_CHECK(block.size() == kEbsBlockSizeBytes);
  const net::Sha256 digest = net::sha256(block);
  net::HttpRequest request;
  request.method = "PUT";
  request.url = block_path(snapshot, index);
  // The body's hash is known, so the signature covers it too, which the service does not demand.
  request.headers = {{"content-type", "application/octet-stream"},
                     {"x-amz-checksum", to_base64(digest)},
                     {"x-amz-checksum-algorithm", "SHA256"},
                     {"x-amz-content-sha256", to_hex(digest)},
                     {"x-amz-data-length", std::to_string(kEbsBlockSizeBytes)}};
  request.body = block;
  RECLO_ASSIGN_OR_RETURN(const net::HttpResponse response,
                         send(put_, std::move(request), "ebs:PutSnapshotBlock", cancel));
  const std::string_view echoed = response.header("x-amz-checksum");
  if (!echoed.empty() && echoed != to_base64(digest))
    return Error(Code::kCorruption,
                 fmt::format("block {} of {} arrived as something else", index, snapshot.text()));
  return digest;
}

Status EbsClient::complete(const SnapshotId& snapshot, uint32_t blocks_put,
                           const net::Sha256& linear_sha256, const CancelToken& cancel) {
  net::HttpRequest request;
  request.method = "POST";
  request.url = "/snapshots/completion/" + snapshot.text();
  request.headers = {{"x-amz-changedblockscount", std::to_string(blocks_put)}};
  if (blocks_put > 0)
    request.headers.insert(request.headers.end(), {{"x-amz-checksum", to_base64(linear_sha256)},
                                                   {"x-amz-checksum-aggregation-method", "LINEAR"},
                                                   {"x-amz-checksum-algorithm", "SHA256"}});
  RECLO_TRY(send(complete_, std::move(request), "ebs:CompleteSnapshot", cancel));
  return {};
}

Result<net::HttpResponse> EbsClient::list_page(const std::string& path, std::string_view action,
                                               const std::string& page_token,
                                               const CancelToken& cancel) {
  net::HttpRequest request;
  request.url = path + (path.find('?') == std::string::npos ? "?" : "&") +
                net::encode_query({{"maxResults", std::string(kResultsPerPage)}});
  if (!page_token.empty()) request.url += "&" + net::encode_query({{"pageToken", page_token}});
  request.response_size_bytes_max = kPageSizeBytesMax;
  return send(list_, std::move(request), action, cancel);
}

Status EbsClient::list_blocks(const SnapshotId& snapshot,
                              const std::function<Status(const BlockToken&)>& visit,
                              const CancelToken& cancel) {
  constexpr std::string_view kAction = "ebs:ListSnapshotBlocks";
  std::optional<uint32_t> last;
  const auto visit_page = [&](const Json& json) -> Status {
    if (!json.contains("Blocks")) return {};
    RECLO_ASSIGN_OR_RETURN(const Json* blocks, json_array(json, "Blocks"));
    for (const Json& entry : *blocks) {
      BlockToken block;
      RECLO_ASSIGN_OR_RETURN(block.index, json_get<uint32_t>(entry, "BlockIndex"));
      RECLO_ASSIGN_OR_RETURN(block.token, json_get<std::string>(entry, "BlockToken"));
      RECLO_TRY(check_ascending(last, block.index, kAction));
      RECLO_TRY(visit(block));
    }
    return {};
  };
  const std::string path = "/snapshots/" + snapshot.text() + "/blocks";
  return for_each_page(
      kAction, [&](const std::string& page) { return list_page(path, kAction, page, cancel); },
      visit_page);
}

Result<std::optional<BlockToken>> EbsClient::find_block(const SnapshotId& snapshot, uint32_t index,
                                                        const CancelToken& cancel) {
  constexpr std::string_view kAction = "ebs:ListSnapshotBlocks";
  std::optional<BlockToken> found;
  std::string page;
  // Pages before the one that holds it, or is past it, may be empty.
  for (bool decided = false; !decided;) {
    net::HttpRequest request;
    net::QueryPairs query{{"maxResults", "100"}};
    query.emplace_back(page.empty() ? "startingBlockIndex" : "pageToken",
                       page.empty() ? std::to_string(index) : page);
    request.url = "/snapshots/" + snapshot.text() + "/blocks?" + net::encode_query(query);
    RECLO_ASSIGN_OR_RETURN(const net::HttpResponse response,
                           send(list_, std::move(request), kAction, cancel));
    RECLO_ASSIGN_OR_RETURN(const Json json, parse_json(as_text(response.body), kAction));
    RECLO_ASSIGN_OR_RETURN(const Json* blocks, json_array(json, "Blocks"));
    for (const Json& entry : *blocks) {
      BlockToken block;
      RECLO_ASSIGN_OR_RETURN(block.index, json_get<uint32_t>(entry, "BlockIndex"));
      RECLO_ASSIGN_OR_RETURN(block.token, json_get<std::string>(entry, "BlockToken"));
      if (block.index == index) found = std::move(block);
      decided = true;
      break;
    }
    RECLO_ASSIGN_OR_RETURN(const std::string next, json_get_or<std::string>(json, "NextToken", ""));
    if (next.empty()) decided = true;
    if (!next.empty() && next == page) return bad_answer(kAction, "its pages go in a circle");
    page = next;
  }
  return found;
}

Status EbsClient::list_changed_blocks(const SnapshotId& first, const SnapshotId& second,
                                      const std::function<Status(const ChangedBlock&)>& visit,
                                      const CancelToken& cancel) {
  constexpr std::string_view kAction = "ebs:ListChangedBlocks";
  std::optional<uint32_t> last;
  const auto visit_page = [&](const Json& json) -> Status {
    if (!json.contains("ChangedBlocks")) return {};
    RECLO_ASSIGN_OR_RETURN(const Json* blocks, json_array(json, "ChangedBlocks"));
    for (const Json& entry : *blocks) {
      ChangedBlock block;
      RECLO_ASSIGN_OR_RETURN(block.index, json_get<uint32_t>(entry, "BlockIndex"));
      RECLO_ASSIGN_OR_RETURN(block.first_token,
                             json_get_or<std::string>(entry, "FirstBlockToken", ""));
      RECLO_ASSIGN_OR_RETURN(block.second_token,
                             json_get_or<std::string>(entry, "SecondBlockToken", ""));
      RECLO_TRY(check_ascending(last, block.index, kAction));
      RECLO_TRY(visit(block));
    }
    return {};
  };
  const std::string path = "/snapshots/" + second.text() + "/changedblocks?" +
                           net::encode_query({{"firstSnapshotId", first.text()}});
  return for_each_page(
      kAction, [&](const std::string& page) { return list_page(path, kAction, page, cancel); },
      visit_page);
}

Result<Bytes> EbsClient::get_block(const SnapshotId& snapshot, const BlockToken& block,
                                   const CancelToken& cancel) {
  net::HttpRequest request;
  request.url =
      block_path(snapshot, block.index) + "?" + net::encode_query({{"blockToken", block.token}});
  request.response_size_bytes_max = kEbsBlockSizeBytes;
  RECLO_ASSIGN_OR_RETURN(net::HttpResponse response,
                         send(get_, std::move(request), "ebs:GetSnapshotBlock", cancel));
  if (response.body.size() != kEbsBlockSizeBytes ||
      response.header("x-amz-checksum") != to_base64(net::sha256(response.body)))
    return Error(Code::kCorruption, fmt::format("block {} of {} does not fit its checksum",
                                                block.index, snapshot.text()));
  return std::move(response.body);
}

}  // namespace reclo::cloud
