#include "store/s3_upload.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>

#include "base/task_pool.h"
#include "base/units.h"
#include "net/aws_credentials.h"
#include "os/file.h"
#include "store/s3_xml.h"

namespace reclo::store {
namespace {

constexpr uint64_t kPartSizeBytesMin = 32 * kMiB;
constexpr uint64_t kPartsMax = 9'000;  // S3's own limit is 10,000
constexpr size_t kThreads = 4;

struct Part {
  uint64_t offset_bytes = 0;
  uint64_t size_bytes = 0;
  std::string etag;
};

std::vector<Part> cut(uint64_t size_bytes) {
  const uint64_t part =
      std::max(kPartSizeBytesMin, round_up(divide_up(size_bytes, kPartsMax), kMiB));
  std::vector<Part> out;
  for (uint64_t at = 0; at < size_bytes; at += part)
    out.push_back({at, std::min(part, size_bytes - at), ""});
  return out;
}

Result<Bytes> read_part(const os::Fd& file, const Part& part) {
  Bytes data(part.size_bytes);
  RECLO_TRY(os::read_at(file, part.offset_bytes, data));
  return data;
}

Status put_parts(S3Client& client, const std::string& key, const std::string& upload_id,
                 const os::Fd& file, std::vector<Part>& parts, ProgressSink& progress,
                 const CancelToken& cancel) {
  std::atomic<size_t> next = 0;
  std::atomic<uint64_t> done_bytes = 0;
  const uint64_t total_bytes = parts.back().offset_bytes + parts.back().size_bytes;
  TaskPool pool(kThreads);
  TaskGroup group(pool, cancel);
  const auto work = [&]() -> Status {
    for (size_t i = next++; i < parts.size(); i = next++) {
      RECLO_ASSIGN_OR_RETURN(const Bytes data, read_part(file, parts[i]));
      S3Call call;
      call.method = "PUT";
      call.key = key;
      call.query = {{"partNumber", std::to_string(i + 1)}, {"uploadId", upload_id}};
      call.body = data;
      RECLO_ASSIGN_OR_RETURN(const net::AwsAnswer answer, client.perform(call, group.token()));
      parts[i].etag = answer.response.header("etag");
      if (parts[i].etag.empty())
        return Error(Code::kUnavailable, "S3 took a part and gave no ETag for it");
      done_bytes += data.size();
      ProgressUpdate update;
      update.stage = "uploading";
      update.done_bytes = done_bytes;
      update.total_bytes = total_bytes;
      update.uploaded_bytes = done_bytes;
      progress.update(update);
    }
    return {};
  };
  for (size_t i = 0; i < kThreads; ++i) group.spawn(work);
  return group.wait();
}

Status complete(S3Client& client, const std::string& key, const std::string& upload_id,
                const std::vector<Part>& parts, const CancelToken& cancel) {
  std::string body = "<CompleteMultipartUpload>";
  for (size_t i = 0; i < parts.size(); ++i)
    body += fmt::format("<Part><PartNumber>{}</PartNumber><ETag>{}</ETag></Part>", i + 1,
                        parts[i].etag);
  body += "</CompleteMultipartUpload>";
  S3Call call;
  call.method = "POST";
  call.key = key;
  call.query = {{"uploadId", upload_id}};
  call.body = as_bytes(body);
  RECLO_ASSIGN_OR_RETURN(const net::AwsAnswer answer, client.perform(call, cancel));
  // S3 may answer 200 and tell of a failure in the body: it had begun to answer before it knew.
  const S3ErrorBody error = parse_s3_error(answer.response.body);
  if (!error.code.empty())
    return Error(Code::kUnavailable, fmt::format("S3 could not put '{}' together: {} {}", key,
                                                 error.code, error.message));
  return {};
}

}  // namespace

bool needs_multipart(uint64_t size_bytes) { return size_bytes > kPartSizeBytesMin; }

Result<std::string> begin_upload(S3Client& client, const std::string& key,
                                 const CancelToken& cancel) {
  S3Call call;
  call.method = "POST";
  call.key = key;
  call.query = {{"uploads", ""}};
  RECLO_ASSIGN_OR_RETURN(const net::AwsAnswer answer, client.perform(call, cancel));
  return parse_s3_upload_id(answer.response.body);
}

Status upload_file(S3Client& client, const std::string& key, const std::string& upload_id,
                   const std::string& path, ProgressSink& progress, const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const os::Fd file, os::open_file(path, os::OpenMode::kRead));
  RECLO_ASSIGN_OR_RETURN(const uint64_t size_bytes, os::file_size_bytes(path));
  if (upload_id.empty()) {
    RECLO_ASSIGN_OR_RETURN(const Bytes data, read_part(file, {0, size_bytes, ""}));
    S3Call call;
    call.method = "PUT";
    call.key = key;
    call.body = data;
    RECLO_TRY(client.perform(call, cancel));
    return {};
  }
  std::vector<Part> parts = cut(size_bytes);
  RECLO_TRY(put_parts(client, key, upload_id, file, parts, progress, cancel));
  return complete(client, key, upload_id, parts, cancel);
}

Status abort_upload(S3Client& client, const std::string& key, const std::string& upload_id,
                    const CancelToken& cancel) {
  S3Call call;
  call.method = "DELETE";
  call.key = key;
  call.query = {{"uploadId", upload_id}};
  call.accepted = {404};
  RECLO_TRY(client.perform(call, cancel));
  return {};
}

Status delete_object(S3Client& client, const std::string& key, const CancelToken& cancel) {
  S3Call call;
  call.method = "DELETE";
  call.key = key;
  call.accepted = {404};
  RECLO_TRY(client.perform(call, cancel));
  return {};
}

}  // namespace reclo::store
