// The image that a failover starts: a standby's, or one of its own, made now (cold, import).
//
//   each disk: snapshot started ─▶ blocks put, each noted ─▶ completed     (or import_path.h)
//   ─▶ image registered under the instance's name ─▶ available
//
// One thread.
#pragma once

#include "recovery/ec2/failover_bench.h"

namespace reclo::recovery {

/// Until record.image can be started. Goes on where it was interrupted.
Status ensure_image(FailoverBench& bench);
/// Removes what was made for this instance, known or not; never a standby.
Status remove_image(FailoverBench& bench);

}  // namespace reclo::recovery
