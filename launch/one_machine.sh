#!/usr/bin/env bash
# Untested (written without a GPU at hand); the command itself is tested on a CPU.
# One GPU, or all GPUs of one machine: one process drives them all, and nothing has to be said about it.
#
#   launch/one_machine.sh CONFIG WORKDIR [flags of train.py]      CUDA_VISIBLE_DEVICES=0 limits it to the first GPU
#
# data.sets_per_batch is the batch of all GPUs together, and a multiple of their number x optimizer.accumulate.
set -euo pipefail
config=$1 workdir=$2
shift 2
python train.py --config="$config" --workdir="$workdir" "$@"
python evaluate.py --workdir="$workdir" --tasks=all
