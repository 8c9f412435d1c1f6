#!/usr/bin/env bash
# Make .venv with the pinned requirements and this package in it; again only when they changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-python3}
if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "set-up: $PYTHON is missing or older than 3.11; install Python 3.11 or newer, or set PYTHON=/path/to/it" >&2
    exit 2
fi
stamp=.venv/.installed
want=$(cat requirements.txt pyproject.toml | sha256sum; pwd)
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && exit 0

if ! "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null; then
    echo "set-up: $PYTHON cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2
    exit 2
fi
echo "set-up: installing the pinned requirements into .venv (once, some minutes); log in .setup.log"
rm -f "$stamp"
if ! { "$PYTHON" -m venv .venv &&
       .venv/bin/python -m pip install --disable-pip-version-check -r requirements.txt &&
       .venv/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .; } >.setup.log 2>&1; then
    tail -n 5 .setup.log >&2
    echo "set-up: failed; the whole log is in .setup.log" >&2
    exit 2
fi
echo "$want" >"$stamp"
