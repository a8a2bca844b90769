// The XML that S3 answers with, taken apart. Input is bounded by the HTTP client; anything that is
// not as expected is an error, never a guess. Namespaces are ignored, and servers differ in the
// name of the root, so children are found by name.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "store/object_store.h"

namespace reclo::store {

/// One page of ListObjectsV2.
struct S3ListPage {
  std::vector<ObjectInfo> objects;           // whole keys, decoded
  std::vector<std::string> common_prefixes;  // whole, decoded, ending in the delimiter
  std::string next_token;                    // empty on the last page
};
/// Errors: kUnavailable when this is no list.
Result<S3ListPage> parse_s3_list(ByteSpan xml);

/// <Error>: all empty when the body is none, as in answers to HEAD.
struct S3ErrorBody {
  std::string code;
  std::string message;
  std::string region;  // where the bucket is, when the service says so
};
S3ErrorBody parse_s3_error(ByteSpan xml);

/// The id of a multipart upload that was begun. Errors: kUnavailable when there is none.
Result<std::string> parse_s3_upload_id(ByteSpan xml);

}  // namespace reclo::store
