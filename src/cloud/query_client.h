// The Query protocol that EC2 and STS speak: a form with Action and Version in, XML out.
// Safe from any thread.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "cloud/service.h"
#include "net/url.h"

namespace reclo::cloud {

class QueryClient {
 public:
  /// `version`: the API's date, "2016-11-15".
  QueryClient(std::string service, std::string version, const ServiceOptions& options,
              uint64_t requests_per_second_max);

  /// The answer's XML. Errors: see word_refusal().
  Result<Bytes> call(const std::string& action, net::QueryPairs parameters,
                     const CancelToken& cancel);
  const net::AwsClientOptions& options() const { return service_.options(); }

 private:
  const std::string name_;
  const std::string version_;
  Service service_;
};

}  // namespace reclo::cloud
