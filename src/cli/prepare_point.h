// What the verbs that start a server elsewhere ask of its preparation. Any thread.
#pragma once

#include <memory>

#include "cli/context.h"
#include "recovery/ec2/prepared_source.h"
#include "recovery/guest/prepare.h"

namespace reclo::cli {

/// A preparation of the machine's points for EC2, without extras.
Result<recovery::PrepareRequest> prepare_request(const Context& context, const RepositoryId& id,
                                                 const repo::MachineRecord& machine);

/// Prepares `point`, or takes what an earlier preparation made; `point` must outlive the result.
/// Errors: kUnsupported with the verdict when the server would not start in EC2; those of
/// recovery::prepare_point(). All name the way out, --no-prepare.
Result<std::unique_ptr<recovery::PreparedSource>> prepare_for_ec2(
    Context& context, const RepositoryId& repository, const repo::MachineRecord& machine,
    recovery::StandbySource& point, const crypto::SecretKey& box);

}  // namespace reclo::cli
