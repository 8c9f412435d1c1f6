#!/usr/bin/env bash
# Every stage from images to submission.csv:   ./run_all.sh [CONFIG] [--key value ...]
# Without arguments: the demo. A run that was killed continues where it stopped; what stands is not done again.
# PUSH=1 ./run_all.sh CONFIG goes on to Kaggle: kernel, dry run, push, submission. Else nothing leaves the machine.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/scripts/setup.sh"

config=configs/demo.yaml
if [ $# -gt 0 ]; then
    config=$1
    shift
fi
[ $# -eq 0 ] && [ "$config" = configs/demo.yaml ] && cd "$here"
trap 'exit 130' INT
for stage in synth prepare folds train oof decide report predict submit; do
    "$here/.venv/bin/steel" "$stage" "$config" "$@"
done
if [ "${PUSH:-}" = 1 ]; then
    "$here/.venv/bin/steel" kernel bundle "$config" "$@"
    "$here/.venv/bin/steel" kernel test "$config" "$@"
    "$here/.venv/bin/steel" kernel push "$config" --yes "$@"
    "$here/.venv/bin/steel" kernel submit "$config" --yes "$@"
fi
