#!/usr/bin/env bash
# Checks, measures, trains and evaluates on this machine's device within a time budget: see benchmarks/README.md.
#   [STAGES=tests,benchmarks,train,evaluate] [CONFIG=FILE] [WORKDIR=DIR] [EVALUATE='FLAGS of evaluate.py'] \
#     benchmarks/gpu_report.sh [MINUTES] [--config.SECTION.KEY=VALUE ...]
# PYTHON=python3.12 chooses the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python="${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}"
case "${1:-}" in '' | -*) minutes=30 ;; *) minutes="$1" && shift ;; esac
config=(--config="${CONFIG:-configs/omniglot_scha_vae_lag.py}" "$@")
workdir="${WORKDIR:-runs/gpu_report}"
run="$workdir/run" results="$workdir/results"
mkdir -p "$workdir/logs" "$results"
export HFSGM_CACHE="${HFSGM_CACHE:-.cache/data}" XLA_PYTHON_CLIENT_PREALLOCATE=false
export JAX_PLATFORMS="${JAX_PLATFORMS-}" # empty: what JAX finds first, in the tests too
failed=""

# NAME ARGUMENTS: Python with these, ended when $SECONDS is $end; then it has 30 s to save its work.
try() {
  local name="$1" log="$workdir/logs/$1.log" status=0 start=$SECONDS
  shift
  if ((end <= SECONDS)); then echo "$name: no time left" && return; fi
  timeout --kill-after=30 $((end - SECONDS)) "$python" "$@" >"$log" 2>&1 || status=$?
  tail -n 5 "$log"
  echo "[$SECONDS of $((60 * minutes)) s] $name: status $status (124, 137: its time was over) after $((SECONDS - start)) s"
  case $status in 0 | 124 | 137) ;; *) failed="$failed $name" ;; esac
}

evaluate() {
  local extra
  read -ra extra <<<"${EVALUATE:-}"
  try "evaluate_$1" evaluate.py --workdir="$run" --eval.transfer='()' "${@:2}" "${extra[@]}"
}

end=180
try probe -m benchmarks.measure probe "${config[@]}" --out="$results/machine.json"
[ -z "$failed" ] || { echo "The machine or the data cannot be used" && exit 1; }

stages="${STAGES:-tests,benchmarks,train,evaluate}" left=0
declare -A share=([tests]=15 [benchmarks]=25 [train]=35 [evaluate]=25) # of the time, among the stages asked for
for stage in ${stages//,/ }; do left=$((left + share[$stage])); done
for stage in ${stages//,/ }; do
  end=$((SECONDS + (60 * minutes - 60 - SECONDS) * share[$stage] / left)) left=$((left - share[$stage]))
  case $stage in
  tests)
    beside=()
    if "$python" -c 'import xdist' 2>/dev/null; then beside=(-n 8 --dist=loadgroup); fi
    files=(tests/models/test_invariants.py tests/test_{distributions,objectives,sampling}.py)
    try tests -m pytest -q "${beside[@]}" "${files[@]}"
    ;;
  benchmarks)
    try benchmarks -m benchmarks.run benchmarks/accelerator.txt --minutes=0 --each=2 --out="$results/benchmarks"
    ;;
  train) try train train.py "${config[@]}" --workdir="$run" ;;
  evaluate)
    evaluate few_sets --tasks=likelihood --eval.max_sets=64 # for a number in any case
    evaluate sample_and_classify --tasks=sample,classify
    evaluate all_sets --tasks=likelihood --eval.max_sets=0
    ;;
  esac
done

end=$((60 * minutes))
if compgen -G "$run/checkpoints/[0-9]*" >/dev/null; then
  try page evaluate.py --workdir="$run" --tasks=report
  try export -c "import hfsgm_jax; hfsgm_jax.export('$run', '$results')"
  cp "$run"/metrics.jsonl "$run"/report.html "$run"/eval/*.json "$run"/eval/sample.png "$results" || true
fi
echo "Results: $results${failed:+; failed:$failed, see $workdir/logs}"
[ -z "$failed" ]
