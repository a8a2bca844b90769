// The listing half of S3Store.
#include <fmt/format.h>

#include <algorithm>

#include "store/s3_store.h"
#include "store/s3_xml.h"

namespace reclo::store {
namespace {

constexpr size_t kPageSizeBytesMax = 8 << 20;

// Calls `visit` for each page. A service whose token leads nowhere new cannot keep us for ever: the
// caller refuses keys that do not ascend, and an empty page must not be followed by more of them.
Status for_each_page(S3Client& client, const net::QueryPairs& query, AtomicCounters& counters,
                     const std::function<Status(const S3ListPage&)>& visit,
                     const CancelToken& cancel) {
  constexpr int kEmptyPagesMax = 1000;
  std::string token;
  int empty_pages = 0;
  do {
    S3Call call;
    call.query = query;
    call.query.emplace_back("list-type", "2");
    call.query.emplace_back("encoding-type", "url");
    if (!token.empty()) call.query.emplace_back("continuation-token", token);
    call.response_size_bytes_max = kPageSizeBytesMax;
    RECLO_ASSIGN_OR_RETURN(const net::AwsAnswer answer, client.perform(call, cancel));
    ++counters.requests_list;
    RECLO_ASSIGN_OR_RETURN(const S3ListPage page, parse_s3_list(answer.response.body));
    if (page.objects.empty() && page.common_prefixes.empty() && ++empty_pages > kEmptyPagesMax)
      return Error(Code::kUnavailable, "the store's list does not end");
    RECLO_TRY(visit(page));
    token = page.next_token;
  } while (!token.empty());
  return {};
}

Error out_of_order(const std::string& key) {
  return Error(Code::kUnsupported,
               fmt::format("the service does not list in the order of keys (at '{}'), which a "
                           "repository needs: S3 Express directory buckets do not",
                           key));
}

}  // namespace

Status S3Store::list(const std::string& prefix,
                     const std::function<Status(const ObjectInfo&)>& visit,
                     const CancelToken& cancel) {
  RECLO_TRY(check_prefix(prefix));
  const std::string full_prefix = full_key(prefix);
  std::string last;
  const auto visit_page = [&](const S3ListPage& page) -> Status {
    for (const ObjectInfo& object : page.objects) {
      if (!object.key.starts_with(full_prefix) || (!last.empty() && object.key <= last))
        return out_of_order(object.key);
      last = object.key;
      ObjectInfo info = object;
      info.key.erase(0, prefix_.size());
      if (!check_key(info.key).ok()) continue;  // a console's "folder", or somebody else's object
      RECLO_TRY(cancel.check());
      RECLO_TRY(visit(info));
    }
    return {};
  };
  const net::QueryPairs query = {{"prefix", full_prefix},
                                 {"max-keys", std::to_string(options_.list_page_objects)}};
  return for_each_page(client_, query, counters_, visit_page, cancel);
}

Result<std::vector<std::string>> S3Store::list_children(const std::string& prefix,
                                                        const CancelToken& cancel) {
  RECLO_TRY(check_folder_prefix(prefix));
  const std::string full_prefix = full_key(prefix);
  std::vector<std::string> names;
  const auto add = [&](const std::string& key) -> Status {
    if (!key.starts_with(full_prefix)) return out_of_order(key);
    std::string name = key.substr(full_prefix.size());
    const std::string bare = name.ends_with('/') ? name.substr(0, name.size() - 1) : name;
    if (check_key(bare).ok()) names.push_back(std::move(name));
    return {};
  };
  const auto visit_page = [&](const S3ListPage& page) -> Status {
    const size_t before = names.size();
    for (const ObjectInfo& object : page.objects) RECLO_TRY(add(object.key));
    for (const std::string& folder : page.common_prefixes) RECLO_TRY(add(folder));
    std::sort(names.begin() + static_cast<std::ptrdiff_t>(before), names.end());
    if (before > 0 && names.size() > before && names[before] <= names[before - 1])
      return out_of_order(names[before]);
    return {};
  };
  const net::QueryPairs query = {{"prefix", full_prefix},
                                 {"delimiter", "/"},
                                 {"max-keys", std::to_string(options_.list_page_objects)}};
  RECLO_TRY(for_each_page(client_, query, counters_, visit_page, cancel));
  return names;
}

}  // namespace reclo::store
