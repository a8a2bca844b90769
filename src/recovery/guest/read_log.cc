#include "recovery/guest/read_log.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/limits.h"

namespace reclo::recovery {
namespace {

// "… Read id=3 offset=0x1000 count=0x200 …"
std::optional<uint64_t> hex_after(std::string_view line, std::string_view key) {
  const size_t at = line.find(key);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view digits = line.substr(at + key.size());
  uint64_t value = 0;
  const auto [end, failure] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  if (failure != std::errc()) return std::nullopt;
  return value;
}

}  // namespace

void add_reads(std::string_view log, std::vector<disk::Range>& ranges) {
  while (!log.empty()) {
    const size_t end = std::min(log.find('\n'), log.size());
    const std::string_view line = log.substr(0, end);
    log.remove_prefix(std::min(end + 1, log.size()));
    if (line.find(" Read ") == std::string_view::npos) continue;
    const auto offset = hex_after(line, " offset=0x");
    const auto count = hex_after(line, " count=0x");
    if (!offset || !count || *count == 0 || *offset > kDiskSizeBytesMax ||
        *count > kDiskSizeBytesMax)
      continue;
    const uint64_t first = *offset / kPageSizeBytes * kPageSizeBytes;
    ranges.push_back({first, round_up(*offset + *count, kPageSizeBytes) - first});
  }
}

std::vector<disk::Range> merge_ranges(std::vector<disk::Range> ranges, uint64_t size_bytes) {
  std::sort(ranges.begin(), ranges.end(), [](const disk::Range& a, const disk::Range& b) {
    return a.offset_bytes < b.offset_bytes;
  });
  std::vector<disk::Range> out;
  for (const disk::Range& range : ranges) {
    if (range.offset_bytes >= size_bytes) break;
    const uint64_t end = std::min(range.end_bytes(), size_bytes);
    if (!out.empty() && range.offset_bytes <= out.back().end_bytes())
      out.back().size_bytes = std::max(out.back().end_bytes(), end) - out.back().offset_bytes;
    else
      out.push_back({range.offset_bytes, end - range.offset_bytes});
  }
  return out;
}

bool ranges_overlap(const std::vector<disk::Range>& a, const std::vector<disk::Range>& b) {
  for (auto left = a.begin(), right = b.begin(); left != a.end() && right != b.end();) {
    if (left->end_bytes() <= right->offset_bytes)
      ++left;
    else if (right->end_bytes() <= left->offset_bytes)
      ++right;
    else
      return true;
  }
  return false;
}

}  // namespace reclo::recovery
