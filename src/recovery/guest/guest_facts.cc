#include "recovery/guest/guest_facts.h"

#include <algorithm>
#include <charconv>

namespace reclo::recovery {
namespace {

constexpr size_t kFstabLinesMax = 1000;

std::vector<std::string> split_fields(std::string_view line) {
  std::vector<std::string> out;
  while (true) {
    const size_t start = line.find_first_not_of(" \t\r");
    if (start == std::string_view::npos) return out;
    line.remove_prefix(start);
    const size_t end = std::min(line.find_first_of(" \t\r"), line.size());
    out.emplace_back(line.substr(0, end));
    line.remove_prefix(end);
  }
}

struct Place {
  int disk = 0;
  int partition = 0;
};

std::optional<int> number(std::string_view digits) {
  int value = 0;
  const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (digits.empty() || failure != std::errc() || end != digits.data() + digits.size() ||
      value < 0 || value > 4096)
    return std::nullopt;
  return value;
}

// "sda1", "xvdb", "nvme0n1p2", "mmcblk0p1" → which disk and which partition (0: the whole disk).
std::optional<Place> parse_place(std::string_view name) {
  for (const std::string_view prefix : {"xvd", "sd", "vd", "hd"}) {
    if (!name.starts_with(prefix)) continue;
    name.remove_prefix(prefix.size());
    const size_t letters =
        std::min(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz"), name.size());
    if (letters == 0 || letters > 2) return std::nullopt;
    int disk = 0;
    for (const char letter : name.substr(0, letters)) disk = disk * 26 + (letter - 'a') + 1;
    const std::string_view rest = name.substr(letters);
    const std::optional<int> partition = rest.empty() ? 0 : number(rest);
    if (!partition) return std::nullopt;
    return Place{disk - 1, *partition};
  }
  for (const auto& [prefix, middle] :
       {std::pair<std::string_view, std::string_view>{"nvme", "n1"}, {"mmcblk", ""}}) {
    if (!name.starts_with(prefix)) continue;
    name.remove_prefix(prefix.size());
    const size_t digits = std::min(name.find_first_not_of("0123456789"), name.size());
    const std::optional<int> disk = number(name.substr(0, digits));
    name.remove_prefix(digits);
    if (!disk || !name.starts_with(middle)) return std::nullopt;
    name.remove_prefix(middle.size());
    if (name.empty()) return Place{*disk, 0};
    if (name.front() != 'p') return std::nullopt;
    const std::optional<int> partition = number(name.substr(1));
    if (!partition) return std::nullopt;
    return Place{*disk, *partition};
  }
  return std::nullopt;
}

// "vg-lv" of /dev/mapper, in which a '-' of a name is "--".
std::string mapper_name(std::string_view device) {
  std::string out;
  for (size_t i = std::string_view("/dev/").size(); i < device.size(); ++i) {
    if (device[i] == '-')
      out += "--";
    else
      out += device[i] == '/' ? '-' : device[i];
  }
  return out;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

std::string_view unquoted(std::string_view text) {
  if (text.size() >= 2 && (text.front() == '"' || text.front() == '\'') &&
      text.back() == text.front())
    return text.substr(1, text.size() - 2);
  return text;
}

}  // namespace

bool GuestFacts::is_mounted(const std::string& folder) const {
  return std::any_of(mounts.begin(), mounts.end(),
                     [&](const GuestMount& mount) { return mount.folder == folder; });
}

const GuestVolume* GuestFacts::volume(const std::string& device) const {
  for (const GuestVolume& candidate : volumes)
    if (candidate.device == device) return &candidate;
  return nullptr;
}

std::vector<FstabLine> parse_fstab(std::string_view text) {
  std::vector<FstabLine> out;
  for (size_t line_number = 0; !text.empty() && out.size() < kFstabLinesMax; ++line_number) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::vector<std::string> fields = split_fields(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (fields.size() < 3 || fields[0].starts_with('#')) continue;
    if (fields.size() == 3) fields.emplace_back("defaults");
    out.push_back({line_number, std::move(fields)});
  }
  return out;
}

const GuestVolume* resolve_device(const GuestFacts& facts, std::string_view spec) {
  using Field = std::string GuestVolume::*;
  static constexpr std::pair<std::string_view, Field> kNames[] = {
      {"UUID=", &GuestVolume::uuid},
      {"LABEL=", &GuestVolume::label},
      {"PARTUUID=", &GuestVolume::part_uuid},
      {"/dev/disk/by-uuid/", &GuestVolume::uuid},
      {"/dev/disk/by-label/", &GuestVolume::label},
      {"/dev/disk/by-partuuid/", &GuestVolume::part_uuid}};
  spec = unquoted(spec);
  for (const auto& [prefix, field] : kNames) {
    if (!spec.starts_with(prefix)) continue;
    const std::string wanted = lower(unquoted(spec.substr(prefix.size())));
    for (const GuestVolume& volume : facts.volumes)
      if (!(volume.*field).empty() && lower(volume.*field) == wanted) return &volume;
    return nullptr;
  }
  if (!spec.starts_with("/dev/")) return nullptr;
  const std::string_view name = spec.substr(5);
  for (const GuestVolume& volume : facts.volumes) {
    if (volume.disk >= 0) continue;
    if (volume.device == spec ||
        (name.starts_with("mapper/") && mapper_name(volume.device) == name.substr(7)))
      return &volume;
  }
  const std::optional<Place> place = parse_place(name);
  if (!place) return nullptr;
  for (const GuestVolume& volume : facts.volumes)
    if (volume.disk == place->disk && volume.partition == place->partition) return &volume;
  return nullptr;
}

bool is_named_by_place(std::string_view spec) {
  spec = unquoted(spec);
  if (spec.starts_with("/dev/disk/by-path/") || spec.starts_with("/dev/disk/by-id/")) return true;
  return spec.starts_with("/dev/") && parse_place(spec.substr(5)).has_value();
}

}  // namespace reclo::recovery
