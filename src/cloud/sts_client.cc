#include "cloud/sts_client.h"

#include "base/time.h"
#include "cloud/xml.h"

namespace reclo::cloud {
namespace {

constexpr uint64_t kRequestsPerSecond = 50;

}  // namespace

StsClient::StsClient(const ServiceOptions& options)
    : client_("sts", "2011-06-15", options, kRequestsPerSecond) {}

Result<CallerIdentity> StsClient::caller_identity(const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const Bytes body, client_.call("GetCallerIdentity", {}, cancel));
  RECLO_ASSIGN_OR_RETURN(const auto document, parse_xml(body, "sts:GetCallerIdentity"));
  const pugi::xml_node result = document->document_element().child("GetCallerIdentityResult");
  CallerIdentity out;
  RECLO_ASSIGN_OR_RETURN(out.account, xml_required(result, "Account"));
  RECLO_ASSIGN_OR_RETURN(out.arn, xml_required(result, "Arn"));
  return out;
}

Result<net::AwsCredentials> StsClient::assume_role(const std::string& role_arn,
                                                   const std::string& session_name,
                                                   std::chrono::seconds duration,
                                                   const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const Bytes body,
                         client_.call("AssumeRole",
                                      {{"RoleArn", role_arn},
                                       {"RoleSessionName", session_name},
                                       {"DurationSeconds", std::to_string(duration.count())}},
                                      cancel));
  RECLO_ASSIGN_OR_RETURN(const auto document, parse_xml(body, "sts:AssumeRole"));
  const pugi::xml_node result =
      document->document_element().child("AssumeRoleResult").child("Credentials");
  net::AwsCredentials out;
  RECLO_ASSIGN_OR_RETURN(out.access_key_id, xml_required(result, "AccessKeyId"));
  RECLO_ASSIGN_OR_RETURN(out.secret_access_key, xml_required(result, "SecretAccessKey"));
  RECLO_ASSIGN_OR_RETURN(out.session_token, xml_required(result, "SessionToken"));
  RECLO_ASSIGN_OR_RETURN(const std::string expires, xml_required(result, "Expiration"));
  RECLO_ASSIGN_OR_RETURN(out.expires, parse_time(expires));
  return out;
}

}  // namespace reclo::cloud
