// The terminal: progress (a bar, JSON lines, or nothing) on stderr, aligned tables on stdout, and
// prompts for secrets that are not echoed.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/result.h"
#include "cli/options.h"

namespace reclo::cli {

std::unique_ptr<ProgressSink> make_progress(ProgressMode mode);

/// Columns as wide as their widest cell; the first row is the heading.
std::string format_table(const std::vector<std::vector<std::string>>& rows);

/// Asks on the terminal without echo. Errors: kUnauthenticated when there is no terminal, saying
/// how else the passphrase can be given.
Result<std::string> prompt_secret(const std::string& question);

}  // namespace reclo::cli
