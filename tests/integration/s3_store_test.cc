// S3Store against a real server: the contract, and what only a server can show. The server comes
// from the environment (tests/integration/run_s3.sh): RECLO_TEST_S3_ENDPOINT, RECLO_TEST_S3_BUCKET
// and the AWS key variables.
#include "store/s3_store.h"

#include <cstdlib>

#include "net/aws_credentials.h"
#include "store/conformance_test_suite.h"
#include "store/open_store.h"

namespace reclo::store {
namespace {

std::string required(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') {
    std::fprintf(stderr, "%s is not set: run tests/integration/run_s3.sh\n", name);
    std::exit(2);
  }
  return value;
}

StoreFixture make_s3() {
  StoreOptions options;
  options.url = "s3://" + required("RECLO_TEST_S3_BUCKET") + "/conformance/deep";
  options.s3_endpoint = required("RECLO_TEST_S3_ENDPOINT");
  options.s3_region = "us-east-1";
  options.patience = std::chrono::seconds(20);
  return {nullptr, open_store(options, CancelToken()).value()};
}

INSTANTIATE_TEST_SUITE_P(S3, StoreConformanceTest, testing::Values(make_s3));

}  // namespace
}  // namespace reclo::store
