#include "recovery/ec2/block_span_json.h"

#include "cloud/ebs_client.h"

namespace reclo::recovery {
namespace {

constexpr size_t kSpansMax = 200'000;
constexpr uint64_t kBlocksMax = uint64_t{cloud::kEbsVolumeGibMax} * cloud::kEbsBlocksPerGib;

}  // namespace

Json encode_block_spans(const std::vector<BlockSpan>& spans) {
  Json out = Json::array();
  for (const BlockSpan& span : spans) out.push_back({span.first, span.end});
  return out;
}

Result<std::vector<BlockSpan>> decode_block_spans(const Json& json, std::string_view key) {
  std::vector<BlockSpan> out;
  if (detail::json_find(json, key) == nullptr) return out;
  RECLO_ASSIGN_OR_RETURN(const Json* spans, json_array(json, key));
  if (spans->size() > kSpansMax) return Error(Code::kCorruption, "too many runs of blocks");
  uint64_t last_end = 0;
  for (const Json& entry : *spans) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_number_unsigned() ||
        !entry[1].is_number_unsigned() || entry[0].get<uint64_t>() < last_end ||
        entry[0].get<uint64_t>() >= entry[1].get<uint64_t>() ||
        entry[1].get<uint64_t>() > kBlocksMax)
      return Error(Code::kCorruption, "a run of blocks is none");
    out.push_back({entry[0].get<uint32_t>(), entry[1].get<uint32_t>()});
    last_end = out.back().end;
  }
  return out;
}

}  // namespace reclo::recovery
