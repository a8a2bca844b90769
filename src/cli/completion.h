// The completion script for bash, made from the command line's own description so that it cannot
// fall behind it.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace reclo::cli {

/// A script to be sourced: verbs, their options, and files for everything else.
std::string bash_completion(const CLI::App& app);

}  // namespace reclo::cli
