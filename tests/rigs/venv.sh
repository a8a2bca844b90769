#!/bin/bash
# venv.sh - makes (once) the Python environment of the test rigs and prints its python's path.
#   PYTHON=$(tests/rigs/venv.sh)
# Place: $RECLO_VENV, or ~/.cache/reclo/venv. A stamp with the list of packages says that it is whole.
set -eu
VENV=${RECLO_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/reclo/venv}
PACKAGES=('moto[server]' boto3 pynacl argon2-cffi cryptography zstandard)
STAMP=$VENV/.reclo-packages

if [ "$(cat "$STAMP" 2>/dev/null)" != "${PACKAGES[*]}" ]; then
  mkdir -p "$(dirname "$VENV")"
  exec 9>"$VENV.lock"
  flock 9   # two test suites may start at once
  if [ "$(cat "$STAMP" 2>/dev/null)" != "${PACKAGES[*]}" ]; then
    [ -x "$VENV/bin/python3" ] || python3 -m venv "$VENV" >&2
    "$VENV/bin/python3" -m pip install --quiet --disable-pip-version-check "${PACKAGES[@]}" >&2
    printf '%s' "${PACKAGES[*]}" >"$STAMP"
  fi
fi
echo "$VENV/bin/python3"
