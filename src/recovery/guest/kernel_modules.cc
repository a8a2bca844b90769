#include "recovery/guest/kernel_modules.h"

#include <algorithm>
#include <functional>

namespace reclo::recovery {
namespace {

constexpr size_t kModulesMax = 100'000;
constexpr size_t kNeedsMax = 200;
constexpr size_t kIndexDepthMax = 4096;

void for_each_line(std::string_view text, const std::function<void(std::string_view)>& take) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    if (end > 0 && text.front() != '#') take(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

std::vector<std::string_view> words(std::string_view line) {
  std::vector<std::string_view> out;
  while (!line.empty()) {
    const size_t start = line.find_first_not_of(" \t");
    if (start == std::string_view::npos) break;
    line.remove_prefix(start);
    const size_t end = std::min(line.find_first_of(" \t"), line.size());
    out.push_back(line.substr(0, end));
    line.remove_prefix(end);
  }
  return out;
}

void put_be32(Bytes& out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<uint8_t>(value >> shift));
}

using Entry = std::pair<std::string, std::string>;

// Writes the node for entries[first, last), which share their first `depth` characters, after its
// children. Returns where it is, with flags in the upper bits.
uint32_t write_node(Bytes& out, const std::vector<Entry>& entries, size_t first, size_t last,
                    size_t depth) {
  constexpr uint32_t kHasPrefix = 0x80000000;
  constexpr uint32_t kHasValues = 0x40000000;
  constexpr uint32_t kHasChildren = 0x20000000;
  // Sorted: what the first and last key share, all share.
  const std::string& low = entries[first].first;
  const std::string& high = entries[last - 1].first;
  size_t shared = depth;
  while (shared < low.size() && shared < high.size() && low[shared] == high[shared]) ++shared;
  const std::string prefix = low.substr(depth, shared - depth);
  size_t with_value = first;
  while (with_value < last && entries[with_value].first.size() == shared) ++with_value;

  uint32_t flags = 0;
  uint8_t from = 0;
  uint8_t to = 0;
  std::vector<uint32_t> children;
  if (with_value < last && shared < kIndexDepthMax) {
    from = static_cast<uint8_t>(entries[with_value].first[shared]);
    to = static_cast<uint8_t>(high[shared]);
    children.resize(to - from + 1u);
    for (size_t at = with_value; at < last;) {
      size_t end = at;
      while (end < last && entries[end].first[shared] == entries[at].first[shared]) ++end;
      children[static_cast<uint8_t>(entries[at].first[shared]) - from] =
          write_node(out, entries, at, end, shared + 1);
      at = end;
    }
    flags |= kHasChildren;
  }
  const uint32_t offset = static_cast<uint32_t>(out.size());
  if (!prefix.empty()) {
    out.insert(out.end(), prefix.begin(), prefix.end());
    out.push_back(0);
    flags |= kHasPrefix;
  }
  if ((flags & kHasChildren) != 0) {
    out.push_back(from);
    out.push_back(to);
    for (const uint32_t child : children) put_be32(out, child);
  }
  if (with_value > first) {
    put_be32(out, static_cast<uint32_t>(with_value - first));
    for (size_t i = first; i < with_value; ++i) {
      put_be32(out, static_cast<uint32_t>(i));  // earlier ones win
      out.insert(out.end(), entries[i].second.begin(), entries[i].second.end());
      out.push_back(0);
    }
    flags |= kHasValues;
  }
  return offset | flags;
}

}  // namespace

std::string module_name(std::string_view path) {
  const size_t slash = path.rfind('/');
  if (slash != std::string_view::npos) path.remove_prefix(slash + 1);
  const size_t end = path.find(".ko");
  if (end == std::string_view::npos || end == 0) return {};
  const std::string_view rest = path.substr(end + 3);
  if (!rest.empty() && rest != ".xz" && rest != ".zst" && rest != ".gz") return {};
  std::string name(path.substr(0, end));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

KernelModules parse_modules(std::string_view dep, std::string_view builtin,
                            std::string_view alias) {
  KernelModules out;
  for_each_line(dep, [&](std::string_view line) {
    const size_t colon = line.find(':');
    const std::string name = module_name(line.substr(0, colon));
    if (colon == std::string_view::npos || name.empty() || out.modules.size() >= kModulesMax)
      return;
    const std::string_view path = line.substr(0, colon);
    if (path.starts_with('/') || path.find("..") != std::string_view::npos) return;
    KernelModule& module = out.modules[name];
    module.path = std::string(path);
    for (const std::string_view need : words(line.substr(colon + 1))) {
      const std::string needed = module_name(need);
      if (!needed.empty() && module.needs.size() < kNeedsMax) module.needs.push_back(needed);
    }
  });
  for_each_line(builtin, [&](std::string_view line) {
    const std::string name = module_name(line);
    if (!name.empty() && out.builtin.size() < kModulesMax) out.builtin.insert(name);
  });
  for_each_line(alias, [&](std::string_view line) {
    const auto parts = words(line);
    if (parts.size() == 3 && parts[0] == "alias" && out.aliases.size() < kModulesMax)
      out.aliases.emplace_back(parts[1], parts[2]);
  });
  return out;
}

std::vector<std::string> with_dependencies(const KernelModules& kernel,
                                           const std::vector<std::string>& wanted) {
  std::vector<std::string> order;
  std::set<std::string> seen;
  // modules.dep lists everything a module needs, directly or not, the deepest last.
  const auto take = [&](const std::string& name) {
    if (!kernel.builtin.contains(name) && kernel.modules.contains(name) && seen.insert(name).second)
      order.push_back(name);
  };
  for (const std::string& name : wanted) {
    const auto found = kernel.modules.find(name);
    if (found == kernel.modules.end()) continue;
    for (auto need = found->second.needs.rbegin(); need != found->second.needs.rend(); ++need)
      take(*need);
    take(name);
  }
  return order;
}

Bytes encode_index(const std::vector<Entry>& entries) {
  constexpr uint32_t kMagic = 0xb007f457;
  constexpr uint32_t kVersion = 0x00020001;
  std::vector<Entry> sorted;
  for (const Entry& entry : entries)
    if (entry.first.size() < kIndexDepthMax &&
        std::all_of(entry.first.begin(), entry.first.end(),
                    [](char c) { return c > 0 && c < 0x7f; }))
      sorted.push_back(entry);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Entry& a, const Entry& b) { return a.first < b.first; });
  Bytes out;
  put_be32(out, kMagic);
  put_be32(out, kVersion);
  put_be32(out, 0);
  if (sorted.empty()) return out;
  const uint32_t root = write_node(out, sorted, 0, sorted.size(), 0);
  for (size_t i = 0; i < 4; ++i) out[8 + i] = static_cast<uint8_t>(root >> (24 - 8 * i));
  return out;
}

}  // namespace reclo::recovery
