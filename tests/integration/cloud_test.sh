#!/bin/bash
# The cloud clients against the strict EC2 stand-in; each GoogleTest case is one result.
# time-limit: 300
# quick-suite
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
work=$(mktemp -d "${TMPDIR:-/tmp}/reclo-cloud.XXXXXX")
rig_pid=
cleanup() {
  [ -n "$rig_pid" ] && kill "$rig_pid" 2>/dev/null && wait "$rig_pid" 2>/dev/null
  rm -rf "$work"
}
trap cleanup EXIT
python=$(tests/rigs/venv.sh) || exit 1
# Nothing of the caller's own account must reach the tests, nor the other way round.
for name in $(env | sed -n 's/^\(AWS_[A-Z0-9_]*\)=.*/\1/p'); do unset "$name"; done
export AWS_EC2_METADATA_DISABLED=true AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_CONFIG_FILE=/dev/null
export AWS_ACCESS_KEY_ID=AKIARECLOTEST0000001 AWS_SECRET_ACCESS_KEY=reclo/test+secret/0000000000000000000
"$python" tests/rigs/ec2/server.py --access-key "$AWS_ACCESS_KEY_ID" --secret-key "$AWS_SECRET_ACCESS_KEY" \
  >"$work/rig.out" 2>"$work/rig.err" &
rig_pid=$!
for _ in $(seq 300); do
  grep -q '^ready ' "$work/rig.out" && break
  kill -0 "$rig_pid" 2>/dev/null || { cat "$work/rig.err" >&2; exit 1; }
  sleep 0.1
done
RECLO_TEST_AWS_ENDPOINT=$(sed -n 's/^ready //p' "$work/rig.out")
export RECLO_TEST_AWS_ENDPOINT
build/release/bin/cloud_aws_test --gtest_color=no 2>&1 |
  awk '
    { print "  | " $0; fflush() }
    /^\[       OK \]/ { print "PASS cloud." $4; fflush() }
    /^\[  FAILED  \]/ && /ms\)$/ { print "FAIL cloud." $4 ": see the log"; failed = 1 }
    END { exit failed }'
status=$?
[ "$status" = 0 ] || sed 's/^/  rig: /' "$work/rig.err" | tail -40
exit "$status"
