#include "net/aws_config.h"

#include <fmt/format.h>

#include <cstdlib>
#include <sstream>

#include "os/file.h"

namespace reclo::net {
namespace {

using Sections = std::map<std::string, std::map<std::string, std::string>>;

constexpr uint64_t kFileSizeBytesMax = 1 << 20;

std::string trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return std::string(text.substr(begin, text.find_last_not_of(kSpace) - begin + 1));
}

Result<Sections> load_ini(const std::string& path) {
  if (path.empty() || !os::path_exists(path)) return Sections();
  RECLO_ASSIGN_OR_RETURN(const Bytes content, os::read_file(path, kFileSizeBytesMax));
  return parse_ini(std::string(as_text(content)), path);
}

std::string file_path(const Environment& environment, const char* variable,
                      std::string_view in_home) {
  if (const auto named = environment(variable)) return *named;
  const auto home = environment("HOME");
  return home ? os::join_path(*home, in_home) : std::string();
}

}  // namespace

Environment process_environment() {
  return [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    if (value == nullptr || *value == '\0') return std::nullopt;
    return value;
  };
}

std::string AwsProfile::setting(const std::string& key) const {
  const auto known = settings.find(key);
  return known == settings.end() ? std::string() : known->second;
}

Result<Sections> parse_ini(const std::string& text, const std::string& path) {
  Sections sections;
  std::map<std::string, std::string>* section = nullptr;
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    const bool indented = line.starts_with(' ') || line.starts_with('\t');
    const std::string content = trim(line);
    if (content.empty() || content[0] == '#' || content[0] == ';') continue;
    if (content[0] == '[') {
      const size_t end = content.find(']');
      if (end == std::string::npos)
        return Error(Code::kInvalidArgument, fmt::format("{} line {}: no ']'", path, number));
      section = &sections[trim(std::string_view(content).substr(1, end - 1))];
      continue;
    }
    if (indented) continue;
    const size_t equals = content.find('=');
    if (equals == std::string::npos || section == nullptr)
      return Error(Code::kInvalidArgument,
                   fmt::format("{} line {}: neither [section] nor key = value", path, number));
    (*section)[trim(std::string_view(content).substr(0, equals))] =
        trim(std::string_view(content).substr(equals + 1));
  }
  return sections;
}

Result<AwsProfile> load_aws_profile(const Environment& environment) {
  AwsProfile profile;
  auto named = environment("AWS_PROFILE");
  if (!named) named = environment("AWS_DEFAULT_PROFILE");
  profile.name = named.value_or("default");

  const std::string config_path = file_path(environment, "AWS_CONFIG_FILE", ".aws/config");
  const std::string credentials_path =
      file_path(environment, "AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
  RECLO_ASSIGN_OR_RETURN(Sections config, load_ini(config_path));
  RECLO_ASSIGN_OR_RETURN(Sections credentials, load_ini(credentials_path));
  const auto merge = [&](Sections& sections, const std::string& section) {
    const auto found = sections.find(section);
    if (found == sections.end()) return;
    profile.found = true;
    for (auto& [key, value] : found->second) profile.settings[key] = value;
  };
  merge(config, "profile " + profile.name);
  if (profile.name == "default") merge(config, "default");
  merge(credentials, profile.name);
  if (named && !profile.found)
    return Error(Code::kInvalidArgument, fmt::format("there is no AWS profile '{}' in {} or {}",
                                                     profile.name, config_path, credentials_path));
  return profile;
}

Result<std::string> configured_aws_region(const Environment& environment) {
  for (const char* variable : {"AWS_REGION", "AWS_DEFAULT_REGION"})
    if (const auto region = environment(variable)) return *region;
  RECLO_ASSIGN_OR_RETURN(const AwsProfile profile, load_aws_profile(environment));
  return profile.setting("region");
}

}  // namespace reclo::net
