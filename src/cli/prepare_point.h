// What `prepare` and `standby refresh` ask of a preparation. Any thread.
#pragma once

#include "cli/context.h"
#include "recovery/guest/prepare.h"

namespace reclo::cli {

/// For EC2, with nothing extra.
Result<recovery::PrepareRequest> prepare_request(const Context& context, const RepositoryId& id,
                                                 const repo::MachineRecord& machine);

}  // namespace reclo::cli
