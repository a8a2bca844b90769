#include "base/bytes.h"

namespace reclo {

bool is_all_zero(ByteSpan bytes) {
  const uint8_t* p = bytes.data();
  size_t left = bytes.size();
  while (left >= 64) {
    uint64_t words[8];
    std::memcpy(words, p, 64);
    if ((words[0] | words[1] | words[2] | words[3] | words[4] | words[5] | words[6] | words[7]) !=
        0)
      return false;
    p += 64;
    left -= 64;
  }
  for (; left > 0; --left, ++p) {
    if (*p != 0) return false;
  }
  return true;
}

}  // namespace reclo
