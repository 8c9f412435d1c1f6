#!/usr/bin/env bash
# Every stage from images to submission.csv:   ./run_all.sh [CONFIG] [--key value ...]
# Without arguments: the demo. A run that was killed continues where it stopped; what stands is not done again.
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
