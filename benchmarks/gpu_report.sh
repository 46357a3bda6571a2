#!/usr/bin/env bash
# Checks, measures, trains and evaluates on this machine's device within a time budget: see benchmarks/README.md.
#   benchmarks/gpu_report.sh [MINUTES] [FLAGS of benchmarks/gpu_report.py] [--config.SECTION.KEY=VALUE ...]
# PYTHON=python3.12 chooses the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python="${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}"
case "${1:-}" in '' | -*) minutes=() ;; *) minutes=(--minutes="$1") && shift ;; esac
exec "$python" -m benchmarks.gpu_report ${minutes[@]+"${minutes[@]}"} "$@"
