// Exit codes: documented in reclo(1), relied on by scripts.
#pragma once

#include "base/error.h"

namespace reclo::cli {

enum ExitCode : int {
  kExitOk = 0,
  kExitFailure = 1,       // anything not named below
  kExitUsage = 2,         // the command line makes no sense
  kExitNotFound = 3,      // no such repository, point, instance, disk
  kExitDenied = 4,        // wrong passphrase, signature or permission
  kExitCorruption = 5,    // damaged data was found
  kExitUnavailable = 6,   // the store or network does not answer
  kExitConflict = 7,      // somebody else is at it: another backup, a mounted target
  kExitNoSpace = 8,       // a disk or the store is full
  kExitInterrupted = 130  // SIGINT or SIGTERM
};

int exit_code_of(Code code);

}  // namespace reclo::cli
