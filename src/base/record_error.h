// How the records that ReClo keeps in files say that they cannot be used: a newer version is told
// apart, everything else is damage, whatever went wrong while the fields were read. Any thread.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace reclo {

/// `decoded`, or kUnsupported or kCorruption with `what` before its words.
template <class T>
Result<T> name_unusable(Result<T> decoded, std::string_view what) {
  if (decoded.ok()) return decoded;
  const Code code =
      decoded.error().code() == Code::kUnsupported ? Code::kUnsupported : Code::kCorruption;
  return Error(code, std::string(what) + ": " + decoded.error().message());
}

}  // namespace reclo
