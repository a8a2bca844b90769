#!/bin/bash
# The S3 store's own tests against moto and Ceph's gateway; each GoogleTest case is one result.
# time-limit: 900
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
export GTEST_ARGS=--gtest_color=no
for server in moto rgw; do
  tests/integration/run_s3.sh build/release/bin/store_s3_test "$server" 2>&1 |
    awk -v server="$server" '
      { print "  | " $0; fflush() }
      /^\[       OK \]/ { print "PASS s3_store." server "." $4; fflush() }
      /^\[  SKIPPED \]/ && /ms\)$/ { print "SKIP s3_store." server "." $4 }
      /^\[  FAILED  \]/ && /ms\)$/ { print "FAIL s3_store." server "." $4 ": see the log"; failed = 1 }
      END { exit failed }' ||
    status=1
done
exit "${status:-0}"
