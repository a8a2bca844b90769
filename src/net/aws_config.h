// What the usual AWS environment says: variables, and the shared config and credentials files.
//
//   profile      AWS_PROFILE, AWS_DEFAULT_PROFILE, "default"
//   files        AWS_SHARED_CREDENTIALS_FILE or ~/.aws/credentials; AWS_CONFIG_FILE or
//   ~/.aws/config region       AWS_REGION, AWS_DEFAULT_REGION, the profile's "region"
// Safe from any thread.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "base/result.h"

namespace reclo::net {

/// Looks up an environment variable; unset and empty are the same. Tests pass their own.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;
Environment process_environment();

/// One profile's settings, those of the credentials file before those of the config file.
struct AwsProfile {
  std::string name;
  bool found = false;
  std::map<std::string, std::string> settings;

  std::string setting(const std::string& key) const;
};

/// Sections of an ini file as the AWS tools write it: "[name]", "key = value", comments with # or ;
/// at the start of a line, indented lines belong to a nested setting and are skipped.
/// Errors: kInvalidArgument with the line's number; nothing of the line is quoted, it may be
/// secret.
Result<std::map<std::string, std::map<std::string, std::string>>> parse_ini(
    const std::string& text, const std::string& path);

/// Missing files are empty files. Errors: kInvalidArgument when one cannot be parsed, or when a
/// profile that was asked for by name is in neither.
Result<AwsProfile> load_aws_profile(const Environment& environment);

/// The configured region; empty when nothing names one.
Result<std::string> configured_aws_region(const Environment& environment);

}  // namespace reclo::net
