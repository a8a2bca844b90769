#include "store/s3_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/encoding.h"
#include "net/digest.h"
#include "store/content_range.h"
#include "store/s3_xml.h"

namespace reclo::store {
namespace {

constexpr int kPreconditionFailed = 412;
constexpr int kRangeNotSatisfiable = 416;
// 412 says that the key is taken, reading back that it is not: somebody removes it meanwhile.
constexpr int kPutRoundsMax = 5;
constexpr size_t kErrorSizeBytesMax = 64 << 10;

// curl notices a body that ends early only when the service said how long it is.
Status check_length_was_announced(const net::HttpResponse& response, const std::string& key) {
  if (!response.header("content-length").empty() || !response.header("transfer-encoding").empty())
    return {};
  return Error(
      Code::kUnsupported,
      fmt::format("the service sent '{}' without saying how long it is, so that a cut would "
                  "go unnoticed",
                  key));
}

}  // namespace

Result<std::unique_ptr<S3Store>> S3Store::open(
    S3StoreOptions options, std::shared_ptr<net::CredentialsProvider> credentials) {
  RECLO_TRY(check_s3_options(options.s3));
  if (!options.prefix.empty()) RECLO_TRY_WITH(check_key(options.prefix), "the bucket's prefix");
  return std::unique_ptr<S3Store>(new S3Store(std::move(options), std::move(credentials)));
}

S3Store::S3Store(S3StoreOptions options, std::shared_ptr<net::CredentialsProvider> credentials)
    : options_(std::move(options)),
      prefix_(options_.prefix.empty() ? "" : options_.prefix + "/"),
      client_(options_.s3, std::move(credentials)) {}

Status S3Store::put_if_absent(const std::string& key, ByteSpan content, const CancelToken& cancel) {
  RECLO_TRY(check_key(key));
  const net::Sha256 hash = net::sha256(content);
  S3Call call;
  call.method = "PUT";
  call.key = full_key(key);
  call.body = content;
  call.headers = {{"If-None-Match", "*"}, {"x-amz-content-sha256", to_hex(hash)}};
  if (options_.sha256_checksums)
    call.headers.emplace_back("x-amz-checksum-sha256", to_base64(hash));
  else
    call.headers.emplace_back("Content-MD5", to_base64(net::md5(content)));
  call.response_size_bytes_max = kErrorSizeBytesMax;
  call.accepted = {kPreconditionFailed};
  for (int round = 0; round < kPutRoundsMax; ++round) {
    RECLO_ASSIGN_OR_RETURN(const net::AwsAnswer answer, client_.perform(call, cancel));
    counters_.add_put(content.size());
    if (answer.response.status != kPreconditionFailed) return {};
    if (!answer.ambiguous) return already_exists(key);
    const Result<bool> ours = holds(key, content, cancel);
    if (ours.ok()) {
      if (*ours) return {};
      return already_exists(key);
    }
    if (ours.error().code() != Code::kNotFound) return Error(ours.error());
  }
  return Error(Code::kConflict,
               fmt::format("object '{}' is put and removed by somebody else all the time", key));
}

// Whether the object has exactly these bytes.
Result<bool> S3Store::holds(const std::string& key, ByteSpan content, const CancelToken& cancel) {
  const Result<Bytes> stored = get(key, content.size(), cancel);
  if (stored.ok()) return std::ranges::equal(*stored, content);
  if (stored.error().code() == Code::kResourceExhausted) return false;
  return Error(stored.error());
}

Result<Bytes> S3Store::get(const std::string& key, uint64_t size_bytes_max,
                           const CancelToken& cancel) {
  RECLO_TRY(check_key(key));
  S3Call call;
  call.key = full_key(key);
  // Room for an <Error> even when the object may only be small.
  call.response_size_bytes_max = std::max<uint64_t>(size_bytes_max, kErrorSizeBytesMax);
  RECLO_ASSIGN_OR_RETURN(net::AwsAnswer answer, client_.perform(call, cancel));
  RECLO_TRY(check_length_was_announced(answer.response, key));
  Bytes body = std::move(answer.response.body);
  counters_.add_get(body.size());
  if (body.size() > size_bytes_max)
    return Error(Code::kResourceExhausted,
                 fmt::format("object '{}' has {} bytes, more than the {} allowed", key, body.size(),
                             size_bytes_max));
  return body;
}

Result<Bytes> S3Store::get_range(const std::string& key, ByteRange range,
                                 const CancelToken& cancel) {
  RECLO_TRY(check_key(key));
  RECLO_TRY(check_range(key, range));
  const uint64_t last = range.offset_bytes + range.size_bytes - 1;
  S3Call call;
  call.key = full_key(key);
  call.headers = {{"Range", fmt::format("bytes={}-{}", range.offset_bytes, last)}};
  call.response_size_bytes_max = std::max<uint64_t>(range.size_bytes, kErrorSizeBytesMax);
  call.accepted = {kRangeNotSatisfiable};
  RECLO_ASSIGN_OR_RETURN(net::AwsAnswer answer, client_.perform(call, cancel));
  net::HttpResponse& response = answer.response;
  counters_.add_get(response.body.size());
  if (response.status == kRangeNotSatisfiable)
    return Error(Code::kCorruption, fmt::format("object '{}' ends before byte {}", key,
                                                range.offset_bytes + range.size_bytes));
  const auto got = parse_content_range(response.header("content-range"));
  if (response.status != 206 || !got)
    return Error(Code::kUnsupported,
                 fmt::format("{} does not serve ranges of objects (status {} for '{}')",
                             options_.s3.endpoint, response.status, key));
  if (got->first == range.offset_bytes && got->last < last)
    return range_past_end(key, range, got->total);
  if (got->first != range.offset_bytes || got->last != last ||
      response.body.size() != range.size_bytes)
    return Error(Code::kCorruption,
                 fmt::format("{} sent bytes {}-{} ({} of them) of '{}', asked for {}-{}",
                             options_.s3.endpoint, got->first, got->last, response.body.size(), key,
                             range.offset_bytes, last));
  return std::move(response.body);
}

// An answer to HEAD has no body that would say why; GET of one byte does. Success: no reason found.
Status S3Store::explain_failed_head(const std::string& key, const CancelToken& cancel) {
  S3Call call;
  call.key = full_key(key);
  call.headers = {{"Range", "bytes=0-0"}};
  call.accepted = {kRangeNotSatisfiable};
  call.response_size_bytes_max = kErrorSizeBytesMax;
  RECLO_TRY(client_.perform(call, cancel));
  return {};
}

Result<ObjectInfo> S3Store::stat(const std::string& key, const CancelToken& cancel) {
  RECLO_TRY(check_key(key));
  S3Call call;
  call.method = "HEAD";
  call.key = full_key(key);
  Result<net::AwsAnswer> answer = client_.perform(call, cancel);
  ++counters_.requests_other;
  if (!answer.ok()) {
    RECLO_TRY(cancel.check());
    RECLO_TRY(explain_failed_head(key, cancel));
    answer = client_.perform(call, cancel);
    if (!answer.ok()) return std::move(answer).error();
  }
  ObjectInfo info{key, 0, {}};
  std::string_view length = answer->response.header("content-length");
  const auto parsed =
      std::from_chars(length.data(), length.data() + length.size(), info.size_bytes);
  if (parsed.ec != std::errc() || parsed.ptr != length.data() + length.size())
    return Error(Code::kUnavailable, fmt::format("no size in the answer about '{}'", key));
  info.modified = net::parse_http_date(std::string(answer->response.header("last-modified")))
                      .value_or(WallTime());
  return info;
}

Status S3Store::remove(const std::string& key, const CancelToken& cancel) {
  RECLO_TRY(check_key(key));
  S3Call call;
  call.method = "DELETE";
  call.key = full_key(key);
  const Result<net::AwsAnswer> answer = client_.perform(call, cancel);
  ++counters_.requests_other;
  if (!answer.ok() && answer.error().code() != Code::kNotFound) return Error(answer.error());
  return {};
}

StoreCounters S3Store::counters() const {
  StoreCounters counters = counters_.snapshot();
  counters.retries = client_.retries();
  return counters;
}

std::string S3Store::description() const {
  return fmt::format("s3://{}{}{}", options_.s3.bucket, options_.prefix.empty() ? "" : "/",
                     options_.prefix);
}

}  // namespace reclo::store
