// The command line as a whole: parses argv, runs the verb, prints errors, returns the exit code.
// CLI11 is used here and in completion.cc only (it throws, and is slow to compile).
#pragma once

#include "base/cancel.h"

namespace reclo::cli {

int run_app(int argc, char** argv, const CancelToken& cancel);

}  // namespace reclo::cli
