#!/bin/bash
# run_s3.sh PATH/TO/store_s3_test [moto|rgw]... - brings S3 servers up on loopback, runs the S3 tests
# against each, and takes them down. Ends with the exit code 1 when anything failed. GTEST_ARGS
# replaces --gtest_brief=1.
set -u
HERE=$(cd "$(dirname "$0")" && pwd)
RIGS=$HERE/../rigs
BINARY=${1:?usage: run_s3.sh PATH/TO/store_s3_test [moto|rgw]...}
shift
SERVERS=("$@")
[ $# -gt 0 ] || SERVERS=(moto rgw)
WORK=$(mktemp -d "${TMPDIR:-/tmp}/reclo-s3.XXXXXX")
export RGW_DIR=$WORK/rgw
MOTO_PID=
PROXY_PID=
stop_proxy() {
  [ -n "$PROXY_PID" ] && kill "$PROXY_PID" 2>/dev/null && wait "$PROXY_PID" 2>/dev/null
  PROXY_PID=
}
cleanup() {
  stop_proxy
  [ -n "$MOTO_PID" ] && kill "$MOTO_PID" 2>/dev/null && wait "$MOTO_PID" 2>/dev/null
  "$RIGS/rgw.sh" destroy
  rm -rf "$WORK"
}
trap cleanup EXIT
PYTHON=$("$RIGS/venv.sh") || exit 1
# Nothing of the caller's own account must reach the tests, nor the other way round.
for name in $(env | sed -n 's/^\(AWS_[A-Z0-9_]*\)=.*/\1/p'); do unset "$name"; done
export AWS_EC2_METADATA_DISABLED=true AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_CONFIG_FILE=/dev/null
export RECLO_TEST_S3_BUCKET=reclo-test

# A line to the endpoint that a test can cut.
start_proxy() {
  stop_proxy
  export RECLO_TEST_S3_PROXY_CONTROL=$WORK/proxy.sock
  "$PYTHON" "$RIGS/tcp_proxy.py" --to "${RECLO_TEST_S3_ENDPOINT#http://}" --delay-ms 1 \
    --control "$RECLO_TEST_S3_PROXY_CONTROL" >"$WORK/proxy.out" 2>"$WORK/proxy.err" &
  PROXY_PID=$!
  for _ in $(seq 100); do
    grep -q '^ready ' "$WORK/proxy.out" && break
    kill -0 "$PROXY_PID" 2>/dev/null || { cat "$WORK/proxy.err" >&2; return 1; }
    sleep 0.1
  done
  export RECLO_TEST_S3_PROXY=http://$(sed -n 's/^ready //p' "$WORK/proxy.out")
}

run_moto() {
  export AWS_ACCESS_KEY_ID=AKIARECLOTEST0000001 AWS_SECRET_ACCESS_KEY=reclo/test+secret/0000000000000000000
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
    -subj /CN=reclo-test -addext subjectAltName=IP:127.0.0.1 \
    -keyout "$WORK/tls.key" -out "$WORK/tls.crt" 2>"$WORK/openssl.err" ||
    { cat "$WORK/openssl.err" >&2; return 1; }
  "$PYTHON" "$RIGS/moto_s3.py" --tls-cert "$WORK/tls.crt" --tls-key "$WORK/tls.key" \
    --access-key "$AWS_ACCESS_KEY_ID" --secret-key "$AWS_SECRET_ACCESS_KEY" \
    --bucket "$RECLO_TEST_S3_BUCKET" >"$WORK/moto.out" 2>"$WORK/moto.err" &
  MOTO_PID=$!
  for _ in $(seq 300); do
    grep -q '^ready ' "$WORK/moto.out" && break
    kill -0 "$MOTO_PID" 2>/dev/null || { cat "$WORK/moto.err" >&2; return 1; }
    sleep 0.1
  done
  RECLO_TEST_S3_ENDPOINT=$(sed -n 's/^ready //p' "$WORK/moto.out")
  RECLO_TEST_S3_TLS_ENDPOINT=$(sed -n 's/^ready-tls //p' "$WORK/moto.out")
  export RECLO_TEST_S3_ENDPOINT RECLO_TEST_S3_TLS_ENDPOINT RECLO_TEST_S3_TLS_CA=$WORK/tls.crt
  start_proxy || return 1
  "$BINARY" ${GTEST_ARGS:---gtest_brief=1}
}

run_rgw() {
  "$RIGS/rgw.sh" start || return 1
  eval "$("$RIGS/rgw.sh" env)"
  "$PYTHON" "$RIGS/make_bucket.py" "$RECLO_TEST_S3_ENDPOINT" "$RECLO_TEST_S3_BUCKET" || return 1
  start_proxy || return 1
  "$BINARY" ${GTEST_ARGS:---gtest_brief=1} --gtest_filter='-*NeedsLab*'
}

failed=0
for server in "${SERVERS[@]}"; do
  echo "== S3 on $server"
  "run_$server" || failed=1
done
exit $failed
