// host user-data: what makes a fresh instance with nested virtualisation a host for a server.
#include "cli/commands.h"
#include "recovery/host_user_data.h"

namespace reclo::cli {

Status run_host_user_data(Context& context, const HostArgs& args) {
  recovery::HostUserData wanted;
  wanted.repository = context.options.store.url;
  wanted.s3_endpoint = context.options.store.s3_endpoint;
  wanted.s3_region = context.options.store.s3_region;
  wanted.s3_path_style = context.options.store.s3_path_style.value_or(false);
  wanted.point = args.point;
  wanted.memory = args.memory;
  wanted.cpus = args.cpus;
  wanted.forwards = args.forwards;
  wanted.wait_for = args.wait_for;
  wanted.hydrate = args.hydrate;
  wanted.package_url = args.package_url;
  wanted.package_sha256 = args.package_sha256;
  wanted.passphrase_parameter = args.passphrase_parameter;
  wanted.passphrase_secret = args.passphrase_secret;
  wanted.region = args.region;
  RECLO_ASSIGN_OR_RETURN(const std::string text, recovery::host_user_data(wanted));
  context.progress.reset();
  if (context.options.json) return print_json({{"user_data", text}});
  return print(text);
}

}  // namespace reclo::cli
