#include "cli/prepare_point.h"

#include <fmt/format.h>

namespace reclo::cli {

Result<std::unique_ptr<recovery::PreparedSource>> prepare_for_ec2(
    Context& context, const RepositoryId& repository, const repo::MachineRecord& machine,
    recovery::StandbySource& point, const crypto::SecretKey& box) {
  RECLO_ASSIGN_OR_RETURN(const recovery::PrepareRequest request,
                         prepare_request(context, repository, machine));
  auto result = recovery::prepare_point(request, point, box, *context.progress, context.cancel);
  constexpr const char* kWayOut = "--no-prepare takes the server as it is";
  if (!result.ok())
    return Error(result.error().code(), fmt::format("preparing '{}' for EC2: {} ({})", machine.name,
                                                    result.error().message(), kWayOut));
  if (!result->record.verdict.empty())
    return Error(Code::kUnsupported, fmt::format("'{}' would not start in EC2: {} ({})",
                                                 machine.name, result->record.verdict, kWayOut));
  return std::make_unique<recovery::PreparedSource>(point, std::move(result->overlay));
}

}  // namespace reclo::cli
