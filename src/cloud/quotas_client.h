// Service Quotas: how much of something the account may have. JSON 1.1. Safe from any thread.
#pragma once

#include <string>

#include "cloud/service.h"

namespace reclo::cloud {

/// vCPUs of running on-demand instances of the standard families (A, C, D, H, I, M, R, T, Z).
inline constexpr const char* kStandardVcpusQuota = "L-1216C47A";

/// Whether an instance type ("m7i.large") counts against that quota.
bool is_standard_type(std::string_view instance_type);

/// The value in an answer to GetServiceQuota. Errors: kUnavailable, kCorruption.
Result<double> parse_quota(std::string_view json);

class QuotasClient {
 public:
  explicit QuotasClient(const ServiceOptions& options);

  /// The value that holds in this region. Errors: kNotFound for a quota that is not there, and see
  /// word_refusal().
  Result<double> quota(const std::string& service, const std::string& code,
                       const CancelToken& cancel);

 private:
  Service service_;
};

}  // namespace reclo::cloud
