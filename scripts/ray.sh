#!/usr/bin/env bash
# Make ready what a cluster needs: Ray in .venv. Every node runs it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-ray.txt
