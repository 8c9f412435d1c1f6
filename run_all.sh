#!/usr/bin/env bash
# Every stage from images to submission.csv:   ./run_all.sh [CONFIG] [--key value ...]
# Without arguments: the demo. A run that was killed continues where it stopped; what stands is not done again.
# PUSH=1 ./run_all.sh CONFIG goes on to Kaggle: kernel, dry run, push, submission. Else nothing leaves the machine.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/scripts/setup.sh"

# In the background, where bash hears signals at once: a TERM is passed on, Ctrl-C reaches both, and both wait.
steel() {
    (trap - INT QUIT; exec "$here/.venv/bin/steel" "$@") <&0 &
    wait $!
}
trap 'wait; exit 130' INT
trap 'kill "${!-}" 2>/dev/null || :; wait; exit 143' TERM

config=configs/demo.yaml
if [ $# -gt 0 ]; then
    config=$1
    shift
fi
[ $# -eq 0 ] && [ "$config" = configs/demo.yaml ] && cd "$here"
for stage in synth prepare folds train oof decide report predict submit; do
    steel "$stage" "$config" "$@"
done
if [ "${PUSH:-}" = 1 ]; then
    steel kernel bundle "$config" "$@"
    steel kernel test "$config" "$@"
    steel kernel push "$config" --yes "$@"
    steel kernel submit "$config" --yes "$@"
fi
