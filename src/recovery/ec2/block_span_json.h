// Runs of blocks as the records of standbys, failovers and failbacks hold them:
// [[first, end], …]. Any thread.
#pragma once

#include <string_view>
#include <vector>

#include "base/json.h"
#include "recovery/ec2/block_span.h"

namespace reclo::recovery {

Json encode_block_spans(const std::vector<BlockSpan>& spans);
/// The runs under `key`; none when there is no such key. Errors: kCorruption when they are not
/// ascending runs inside an EBS volume.
Result<std::vector<BlockSpan>> decode_block_spans(const Json& json, std::string_view key);

}  // namespace reclo::recovery
