#include "recovery/host_user_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/units.h"

namespace reclo::recovery {
namespace {

// `aws` is Debian's awscli: it knows how to get the instance role's credentials.
constexpr const char* kHead = R"sh(#!/bin/bash
# Made by `reclo host user-data`: runs a recovered server under QEMU on this host.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

apt-get update
apt-get install -y --no-install-recommends \
  qemu-system-x86 qemu-utils ovmf nbdkit awscli ca-certificates curl
)sh";

constexpr const char* kPackageFromApt = R"sh(apt-get install -y --no-install-recommends reclo
)sh";

constexpr const char* kPackageFromUrl = R"sh(
package=$(mktemp -d)/reclo.deb
curl --fail --silent --show-error --location --retry 10 --retry-all-errors \
  --output "$package" -- {url}
{check}apt-get install -y --no-install-recommends "$package"
rm -r -- "$(dirname "$package")"
)sh";

constexpr const char* kInstall = R"sh(
install -d -m 0755 /usr/local/lib/reclo
cat >/usr/local/lib/reclo/host-start <<'RECLO_HOST_START'
{start}RECLO_HOST_START
chmod 0755 /usr/local/lib/reclo/host-start

cat >/etc/systemd/system/reclo-host.service <<'RECLO_HOST_UNIT'
[Unit]
Description=The server that ReClo recovered
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/lib/reclo/host-start
ExecStop=/usr/bin/env reclo stop recovered
TimeoutStartSec=3600
TimeoutStopSec=180
Restart=on-failure
RestartSec=15

[Install]
WantedBy=multi-user.target
RECLO_HOST_UNIT

systemctl daemon-reload
systemctl enable --now reclo-host.service
)sh";

constexpr const char* kStart = R"sh(#!/bin/bash
# Starts the recovered server, or brings it up again with all it wrote.
set -euo pipefail
umask 077
{environment}
# In memory only, and for no longer than the start takes.
secret=$(mktemp -p /dev/shm reclo-passphrase.XXXXXXXX)
trap 'rm -f -- "$secret"' EXIT
{fetch} >"$secret"
export RECLO_PASSPHRASE_FILE=$secret

if reclo instances --json | grep -q '"name": "recovered"'; then
  reclo resume recovered
else
  reclo recover {recover}
fi
)sh";

Status check_text(std::string_view what, const std::string& value, bool required) {
  if (required && value.empty())
    return Error(Code::kInvalidArgument, fmt::format("{} is missing", what));
  for (const char c : value)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      return Error(Code::kInvalidArgument, fmt::format("{} has a control character", what));
  if (value.size() > 2048 || value.starts_with('-'))
    return Error(Code::kInvalidArgument, fmt::format("{} cannot be '{}'", what, value));
  return {};
}

Status check(const HostUserData& wanted) {
  const std::pair<std::string_view, const std::string*> optional[] = {
      {"the S3 endpoint", &wanted.s3_endpoint},
      {"the S3 region", &wanted.s3_region},
      {"what to wait for", &wanted.wait_for},
      {"the package's URL", &wanted.package_url},
      {"the SSM parameter", &wanted.passphrase_parameter},
      {"the secret", &wanted.passphrase_secret},
      {"the region", &wanted.region}};
  for (const auto& [what, value] : optional) RECLO_TRY(check_text(what, *value, false));
  RECLO_TRY(check_text("the repository", wanted.repository, true));
  RECLO_TRY(check_text("the recovery point", wanted.point, true));
  RECLO_TRY(check_text("the memory", wanted.memory, true));
  if (!wanted.repository.starts_with("s3://"))
    return Error(Code::kInvalidArgument,
                 fmt::format("a host in EC2 cannot reach '{}': the repository must be s3://…",
                             wanted.repository));
  if (wanted.passphrase_parameter.empty() == wanted.passphrase_secret.empty())
    return Error(Code::kInvalidArgument,
                 "where is the passphrase? Give --passphrase-parameter (SSM) or "
                 "--passphrase-secret (Secrets Manager); it is never in the user data");
  if (!wanted.package_url.empty() && !wanted.package_url.starts_with("https://"))
    return Error(Code::kInvalidArgument, "the package's URL must be https://…");
  const std::string& sha256 = wanted.package_sha256;
  if (!sha256.empty() &&
      (sha256.size() != 64 || sha256.find_first_not_of("0123456789abcdef") != std::string::npos))
    return Error(Code::kInvalidArgument, "a SHA-256 has 64 hex digits");
  RECLO_TRY(parse_size_bytes(wanted.memory));
  for (const std::string& forward : wanted.forwards) RECLO_TRY(parse_forward(forward));
  return {};
}

// Puts values where {name} stands. In one pass: what a value holds is never taken for a name.
std::string expand(std::string_view text,
                   const std::map<std::string, std::string, std::less<>>& values) {
  std::string out;
  while (!text.empty()) {
    const size_t open = std::min(text.find('{'), text.size());
    out += text.substr(0, open);
    text.remove_prefix(open);
    const size_t close = text.find('}');
    const auto value =
        close == std::string_view::npos ? values.end() : values.find(text.substr(1, close - 1));
    if (value != values.end()) out += value->second;
    if (value == values.end() && !text.empty()) out.push_back(text.front());
    text.remove_prefix(value != values.end() ? close + 1 : std::min<size_t>(1, text.size()));
  }
  return out;
}

std::string environment_lines(const HostUserData& wanted) {
  std::string out = fmt::format("export RECLO_REPO={}\n", shell_quoted(wanted.repository));
  out += "export RECLO_STATE_DIR=/var/lib/reclo\n";
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) out += fmt::format("export {}={}\n", name, shell_quoted(value));
  };
  add("RECLO_S3_ENDPOINT", wanted.s3_endpoint);
  add("RECLO_S3_REGION", wanted.s3_region);
  add("AWS_DEFAULT_REGION", wanted.region);
  return out;
}

std::string fetch_command(const HostUserData& wanted) {
  if (!wanted.passphrase_parameter.empty())
    return fmt::format(
        "aws ssm get-parameter --name {} --with-decryption \\\n"
        "  --query Parameter.Value --output text",
        shell_quoted(wanted.passphrase_parameter));
  return fmt::format(
      "aws secretsmanager get-secret-value --secret-id {} \\\n"
      "  --query SecretString --output text",
      shell_quoted(wanted.passphrase_secret));
}

std::string recover_words(const HostUserData& wanted) {
  std::string out =
      fmt::format("{} --on qemu --accel auto --name recovered --memory {} --cpus {}",
                  shell_quoted(wanted.point), shell_quoted(wanted.memory), wanted.cpus);
  for (const std::string& forward : wanted.forwards)
    out += fmt::format(" \\\n    --forward {}", shell_quoted(forward));
  if (!wanted.wait_for.empty())
    out += fmt::format(" \\\n    --wait-for {}", shell_quoted(wanted.wait_for));
  if (wanted.hydrate) out += " --hydrate";
  if (wanted.s3_path_style) out += " --s3-path-style";
  return out;
}

}  // namespace

std::string shell_quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      out.push_back(c);
    }
  }
  return out + "'";
}

Result<std::string> host_user_data(const HostUserData& wanted) {
  RECLO_TRY(check(wanted));
  const std::string start = expand(kStart, {{"environment", environment_lines(wanted)},
                                            {"fetch", fetch_command(wanted)},
                                            {"recover", recover_words(wanted)}});
  std::string package = kPackageFromApt;
  if (!wanted.package_url.empty()) {
    const std::string check_line =
        wanted.package_sha256.empty()
            ? ""
            : fmt::format("echo '{}  '\"$package\" | sha256sum --check --strict\n",
                          wanted.package_sha256);
    package =
        expand(kPackageFromUrl, {{"url", shell_quoted(wanted.package_url)}, {"check", check_line}});
  }
  const std::string out = kHead + package + expand(kInstall, {{"start", start}});
  if (out.size() > kUserDataSizeBytesMax)
    return Error(Code::kInvalidArgument,
                 fmt::format("the user data would have {} bytes, EC2 takes {}", out.size(),
                             kUserDataSizeBytesMax));
  return out;
}

}  // namespace reclo::recovery
