// What `prepare`, `standby refresh` and `recover --on ec2` ask of a preparation. Any thread.
#pragma once

#include "cli/context.h"
#include "recovery/ec2/prepared_source.h"
#include "recovery/guest/prepare.h"

namespace reclo::cli {

/// For EC2, with nothing extra.
Result<recovery::PrepareRequest> prepare_request(const Context& context, const RepositoryId& id,
                                                 const repo::MachineRecord& machine);

/// The point with what makes it start in EC2, or why it would not: kUnsupported, naming
/// --no-prepare. `point` must outlive it.
Result<std::unique_ptr<recovery::PreparedSource>> prepare_for_ec2(
    const Context& context, const RepositoryId& id, const repo::MachineRecord& machine,
    recovery::StandbySource& point, const crypto::SecretKey& box, ProgressSink& progress,
    const CancelToken& cancel);

}  // namespace reclo::cli
