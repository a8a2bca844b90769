#!/bin/bash
# run_short.sh [SECONDS] [BIN_FOLDER] - runs each fuzz target for a short time on its committed corpus
# and new inputs, and prints PASS or FAIL for each. What breaks a target is left beside the log.
set -u
HERE=$(cd "$(dirname "$0")" && pwd)
SECONDS_EACH=${1:-10}
BIN=${2:-$HERE/../build/fuzz/bin}
LOGS=${FUZZ_LOGS:-$(mktemp -d "${TMPDIR:-/tmp}/reclo-fuzz.XXXXXX")}
mkdir -p "$LOGS"
failed=0
shopt -s nullglob
targets=("$BIN"/fuzz_*)
[ ${#targets[@]} -gt 0 ] || { echo "FAIL fuzz: no targets in $BIN (cmake --workflow --preset fuzz)"; exit 1; }
for target in "${targets[@]}"; do
  name=$(basename "$target")
  found=$LOGS/$name.corpus
  mkdir -p "$found"
  corpora=("$found")
  for folder in "$HERE/corpus/$name" "$HERE/corpus/${name#fuzz_}"; do
    [ -d "$folder" ] && corpora+=("$folder")
  done
  if "$target" -max_total_time="$SECONDS_EACH" -timeout=10 -rss_limit_mb=2048 \
      -artifact_prefix="$LOGS/$name-" "${corpora[@]}" >"$LOGS/$name.log" 2>&1; then
    echo "PASS fuzz.$name"
    rm -rf "$found"
  else
    echo "FAIL fuzz.$name: see $LOGS/$name.log"
    failed=1
  fi
done
exit $failed
