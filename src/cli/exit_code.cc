#include "cli/exit_code.h"

namespace reclo::cli {

int exit_code_of(Code code) {
  switch (code) {
    case Code::kInvalidArgument:
      return kExitUsage;
    case Code::kNotFound:
      return kExitNotFound;
    case Code::kPermissionDenied:
    case Code::kUnauthenticated:
      return kExitDenied;
    case Code::kCorruption:
      return kExitCorruption;
    case Code::kUnavailable:
    case Code::kTimeout:
      return kExitUnavailable;
    case Code::kConflict:
    case Code::kAlreadyExists:
      return kExitConflict;
    case Code::kNoSpace:
      return kExitNoSpace;
    case Code::kCancelled:
      return kExitInterrupted;
    default:
      return kExitFailure;
  }
}

}  // namespace reclo::cli
