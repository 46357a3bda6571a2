"""The report of a machine: its stages, and what it says of a command that fails; with a Python that does nothing."""

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu_report.sh"
PYTHON = """#!/bin/sh
echo "$@" >> {calls}
[ "$1" != train.py ] || exit 3
"""


def report(tmp_path, *arguments, **environment):
    """``(status, output, commands that it ran)``."""
    python, calls, workdir = tmp_path / "python", tmp_path / "calls", tmp_path / "work"
    python.write_text(PYTHON.format(calls=calls))
    python.chmod(0o755)
    (workdir / "run" / "checkpoints" / "4").mkdir(parents=True)
    (workdir / "run" / "metrics.jsonl").write_text("{}")
    environment |= dict(PYTHON=str(python), WORKDIR=str(workdir))
    done = subprocess.run([SCRIPT, *arguments], env=os.environ | environment, capture_output=True, text=True)
    return done.returncode, done.stdout, calls.read_text().splitlines()


def test_stages_follow_each_other_also_after_a_failure(tmp_path):
    status, said, calls = report(tmp_path, "9", "--config.a.b=1", EVALUATE="--eval.seed=1 --eval.max_sets=2")
    assert status == 1 and "train: status 3" in said and "; failed: train, see " in said
    order = "benchmarks.measure probe", "pytest", "benchmarks.run", "train.py", *["evaluate.py"] * 4, "hfsgm_jax.export"
    calls = [call for call in calls if "import xdist" not in call]
    assert len(calls) == len(order) and all(name in call for name, call in zip(order, calls))
    assert "--config.a.b=1" in calls[3] and calls[4].endswith("--eval.seed=1 --eval.max_sets=2")
    assert (tmp_path / "work" / "results" / "metrics.jsonl").exists()


def test_stages_can_be_chosen(tmp_path):
    status, _, calls = report(tmp_path, STAGES="benchmarks")
    assert status == 0 and len(calls) == 4 and "benchmarks.run" in calls[1]
