// Randomness from the kernel.
#pragma once

#include "base/bytes.h"
#include "base/ids.h"

namespace reclo::os {

/// Fills `out` from getrandom(2); aborts if the kernel cannot, which it always can after boot.
void fill_random(MutableByteSpan out);

template <class IdType>
IdType random_id() {
  IdType id;
  fill_random(id.mutable_bytes());
  return id;
}

/// Uniform in [0, bound), bound > 0: jitter and sampling, not keys.
uint64_t random_below(uint64_t bound);

}  // namespace reclo::os
