"""One command for a machine with an accelerator: what works there, how fast, and what a model learns in the time left.

    benchmarks/gpu_report.sh [MINUTES] [--config=FILE] [--workdir=DIR] [--stages=...] [--config.SECTION.KEY=VALUE ...]

Stages, in order: `tests` (the invariants, on the device), `benchmarks`, `train`, `evaluate`; then WORKDIR/results is
written. A stage that fails is told of and the next begins. Called again on the same WORKDIR it keeps what is done at
this commit and trains on. Needs no internet and no tfds: see benchmarks/README.md.
"""

import argparse
import importlib.util
import os
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu_report_commands import (
    GRACE,
    Limit,
    evaluations_of,
    execute,
    read_json,
    tests_of,
    training_of,
    write_json,
)
from scripts.machine import commit

STAGES = ("tests", "benchmarks", "train", "evaluate")
FILES = ("models/test_invariants.py", "test_distributions.py", "test_objectives.py", "test_sampling.py")
INVARIANTS = " ".join(f"tests/{name}" for name in FILES)
LARGEST = 16 * 2**20  # bytes of a file of the results
COLLECT = 30.0  # seconds kept for writing the results
START = 15.0  # seconds until training begins to count its time
COUNTED = 0.92  # share of a training's time that it counts: not validation and saving


class Report:
    """The state of a report: what is done, in WORKDIR/state.json, and the time that is left."""

    def __init__(self, flags: argparse.Namespace, config_overrides: list[str]):
        self.flags, self.overrides = flags, config_overrides
        self.workdir, self.limit = flags.workdir.resolve(), Limit.after(60 * flags.minutes)
        self.run, self.results = self.workdir / "run", self.workdir / "results"
        self.commit = flags.commit or commit()
        self.env = {"HFSGM_CACHE": str(flags.cache_dir.resolve())}
        self.done: dict[str, Any] = read_json(self.workdir / "state.json", {})

    def do(self, name: str, command: list[str], seconds: float, of: Any = None, **env: str) -> dict[str, Any]:
        """Runs a command, says and remembers how it ended; unless it is done at this commit.

        Args:
          of: what its result depends on, beside the command and the commit (JSON).
          env: environment variables.
        """
        old, same = self.done.get(name, {}), {"command": " ".join(command[1:]), "commit": self.commit, "of": of}
        if old.get("status") == "ok" and all(old.get(key) == value for key, value in same.items()):
            self.say(f"{name}: done before, in {old['seconds']:.0f} s")
            return old
        if seconds < 1:
            self.say(f"{name}: no time left")
            return {"status": "left out"}
        record = execute(command, seconds, self.workdir / "logs" / f"{name}.log", {**self.env, **env})
        record = self.remember(name, record | same)
        self.say(f"{name}: {record['status']} after {record['seconds']:.0f} s")
        if "tail" in record:
            self.say("  " + "\n  ".join(record["tail"].strip().splitlines()[-8:]))
        return record

    def remember(self, name: str, record: dict[str, Any]) -> dict[str, Any]:
        self.done[name] = record
        write_json(self.workdir / "state.json", self.done)
        return record

    def share(self, share: float) -> float:
        """Seconds of a stage: its share of all, or what is left."""
        return min(60 * self.flags.minutes * share, self.limit.left(COLLECT))

    def say(self, text: str) -> None:
        print(f"[{self.limit.left() / 60:4.1f} min left] {text}", flush=True)


def probe(report: Report) -> dict[str, Any]:
    """The machine and the data, seen by a process of its own: this one never holds the device.

    Raises:
      SystemExit: they are not what is needed.
    """
    out = report.workdir / "probe.json"
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.gpu_report_probe", f"--config={report.flags.config}", f"--out={out}"]
    command += report.overrides
    record = execute(command, 180, report.workdir / "logs" / "probe.log", report.env)
    found = read_json(out, None)
    if record["status"] != "ok" or found is None:
        raise SystemExit(f"gpu_report: the machine or the data cannot be used:\n{record.get('tail', '')}")
    if report.flags.platform and found["platform"] != report.flags.platform:
        raise SystemExit(f"gpu_report: --platform={report.flags.platform} is asked for, JAX sees {found['platform']}")
    return found


def run_tests(report: Report, machine: dict[str, Any]) -> None:
    """The invariants, where JAX runs by default (tests/conftest.py)."""
    out, workers = report.workdir / "tests.xml", min(8, machine["cores"] // 2)
    parallel = ["-n", str(workers), "--dist=loadgroup"] if workers > 1 and importlib.util.find_spec("xdist") else []
    command = [sys.executable, "-m", "pytest", "-q", *shlex.split(report.flags.tests), *parallel, f"--junitxml={out}"]
    # Tests side by side share the device's memory, which each would else take most of.
    platform = os.environ.get("JAX_PLATFORMS", "cpu" if machine["platform"] == "cpu" else "")
    env = {"JAX_PLATFORMS": platform, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    record = report.do("tests", command, report.share(report.flags.tests_share), **env)
    if record["status"] in ("ok", "failed"):
        report.remember("tests", record | tests_of(out))


def run_benchmarks(report: Report, machine: dict[str, Any]) -> None:
    from benchmarks.gpu_report_items import LISTS

    stage = Limit.after(report.share(report.flags.benchmarks_share))
    for item in LISTS[report.flags.benchmarks](machine["devices"]):
        if report.flags.only in item.name:
            out = report.workdir / "benchmarks" / f"{item.name}.json"
            command = [sys.executable, "-m", f"benchmarks.{item.kind}", *item.arguments, f"--out={out}"]
            report.do(f"benchmark {item.name}", command, min(stage.left(), report.flags.benchmark_seconds))


def run_training(report: Report, evaluates: bool) -> None:
    """Trains until only the share of the evaluation is left; its own clock starts where the last call's ended."""
    kept = 60 * report.flags.minutes * report.flags.evaluate_share if evaluates else 0.0
    seconds = report.limit.left(kept + COLLECT + GRACE)
    if seconds < 2 * START:
        report.say("train: no time left")
        return
    before = training_of(report.run).get("last", {}).get("seconds", 0.0)
    minutes = (before + COUNTED * (seconds - START)) / 60
    command = [sys.executable, "train.py", f"--config={report.flags.config}", f"--workdir={report.run}"]
    command += [*report.overrides, "--config.train.progress=False", f"--config.train.minutes={minutes:.3f}"]
    report.do("train", command, seconds, of=time.time())


def run_evaluations(report: Report) -> None:
    """A few sets first, for a number in any case; then pictures, classification and the whole test set."""
    step = training_of(report.run).get("last", {}).get("step")
    if step is None:
        report.say("evaluate: nothing is trained")
        return
    stage, page = Limit(report.limit.end - COLLECT), min(20.0, report.share(0.1))
    evaluate = [sys.executable, "evaluate.py", f"--workdir={report.run}"]
    options = ["--eval.transfer=()", f"--eval.importance_samples={report.flags.samples}"]
    options += shlex.split(report.flags.evaluate)
    for name, tasks, sets in (
        ("few sets", "likelihood", min(64, report.flags.sets or 64)),
        ("sample and classify", "sample,classify", 0),
        ("all sets", "likelihood", report.flags.sets),
    ):
        command = [*evaluate, f"--tasks={tasks}", f"--eval.max_sets={sets}", *options]
        report.do(f"evaluate {name}", command, stage.left(page), of=step)
    report.do("evaluate report", [*evaluate, "--tasks=report"], stage.left(), of=time.time())


def keep(report: Report, path: Path) -> None:
    """Copies a file into the results, unless it is too large for them."""
    size, kept = path.stat().st_size, report.results / path.name
    if size <= LARGEST:
        shutil.copyfile(path, kept)
    else:
        kept.unlink(missing_ok=True)  # of an earlier call
        report.say(f"{path} is left out of the results: {size / 2**20:.1f} MiB, more than {LARGEST / 2**20:.0f}")


def collect(report: Report, machine: dict[str, Any]) -> None:
    """WORKDIR/results: what `scripts.results` keeps of a run, its page, the weights, and gpu_report.json."""
    from scripts.results import KEPT

    report.results.mkdir(parents=True, exist_ok=True)
    if report.run.exists():
        if any(path.name.isdecimal() for path in (report.run / "checkpoints").glob("*")):
            out = report.workdir / "exported"
            command = [sys.executable, "-m", "scripts.export", str(report.run), str(out)]
            record = execute(command, 60, report.workdir / "logs" / "export.log", {"JAX_PLATFORMS": "cpu"})
            report.remember("export", record)
        files = [path for pattern in (*KEPT, "report.html") for path in report.run.glob(pattern)]
        for path in [*files, *(report.workdir / "exported").glob("*")]:
            keep(report, path)
    machine = machine | {"commit": report.commit}
    write_json(report.results / "machine.json", machine)
    measured = {path.stem: read_json(path, {}) for path in sorted((report.workdir / "benchmarks").glob("*.json"))}
    summary = {
        "machine": machine,
        "config": report.flags.config,
        "overrides": report.overrides,
        "stages": report.done,
        "tests": {key: value for key, value in report.done.get("tests", {}).items() if key not in ("tail", "command")},
        "benchmarks": measured,
        "training": training_of(report.run),
        "evaluation": evaluations_of(report.run),
    }
    write_json(report.results / "gpu_report.json", summary)
    sizes = {path.name: path.stat().st_size / 2**20 for path in sorted(report.results.iterdir())}
    report.say(f"{report.results}: " + ", ".join(f"{name} {size:.1f}" for name, size in sizes.items()) + " (MiB)")


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--minutes", type=float, default=30.0, help="of this call, all included")
    add("--config", default="configs/omniglot_scha_vae_lag.py", help="what is trained")
    add("--workdir", type=Path, default=Path("runs/gpu_report"), help="folder that calls go on in")
    add("--cache_dir", type=Path, default=Path(".cache/data"), help="what scripts.cache_data wrote")
    add("--stages", type=lambda text: text.split(","), default=list(STAGES), help=",".join(STAGES))
    add("--platform", default="", help="refuse any other platform of JAX than this (gpu, tpu, cpu)")
    add("--commit", help="of this copy, where it is no clone")
    add("--tests", default=INVARIANTS, help="arguments of pytest")
    add("--tests_share", type=float, default=0.15, help="share of the minutes, at most")
    add("--benchmarks", choices=("accelerator", "standard", "none"), default="accelerator", help="which list")
    add("--only", default="", help="benchmarks whose name contains this")
    add("--benchmarks_share", type=float, default=0.25, help="share of the minutes, at most")
    add("--benchmark_seconds", type=float, default=120.0, help="of one benchmark, at most")
    add("--evaluate_share", type=float, default=0.25, help="share of the minutes that training leaves")
    add("--samples", type=int, default=1000, help="K, importance samples of the NLL")
    add("--sets", type=int, default=0, help="test sets of the likelihood (0: all)")
    add("--evaluate", default="", help="more flags of evaluate.py, as one argument")
    flags, others = parser.parse_known_args(argv)
    if wrong := [other for other in others if not other.startswith("--config.")]:
        parser.error(f"unknown arguments {' '.join(wrong)}; train.py's look like --config.SECTION.KEY=VALUE")
    if unknown := set(flags.stages) - set(STAGES):
        parser.error(f"no such stages: {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
    return flags, others


def main(argv: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what runs is stopped, and what is there collected
    report = Report(*parse(argv))
    machine = probe(report)
    report.say(f"{machine['devices']} x {machine['device']}, JAX {machine['jax']}, commit {report.commit}")
    try:
        if "tests" in report.flags.stages:
            run_tests(report, machine)
        if "benchmarks" in report.flags.stages:
            run_benchmarks(report, machine)
        if "train" in report.flags.stages:
            run_training(report, evaluates="evaluate" in report.flags.stages)
        if "evaluate" in report.flags.stages:
            run_evaluations(report)
    finally:
        collect(report, machine)
    bad = [name for name, record in report.done.items() if record["status"] == "failed"]
    if bad:
        report.say(f"failed: {', '.join(bad)}; see {report.workdir / 'logs'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
