"""One command for a machine with an accelerator: what works there, how fast, and what a model learns in the time left.

    benchmarks/gpu_report.sh [MINUTES] [--config=FILE] [--workdir=DIR] [--stages=...] [--config.SECTION.KEY=VALUE ...]

Stages, in order: `tests` (the invariants, on the device), `benchmarks`, `train`, `evaluate`. Each is a list of commands
that share what the stage has of the time; a command that fails is told of and the next begins. WORKDIR/results then
has all that was found. Called again on the same WORKDIR it keeps what is done at this commit and goes on with the rest.
Needs no internet and no tfds: see benchmarks/README.md.
"""

import argparse
import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hfsgm_jax.run_folder import read_metrics
from scripts.machine import ROOT, commit

SHARES = {"tests": 15, "benchmarks": 25, "train": 35, "evaluate": 25}  # of the time, among the stages asked for
FILES = ("models/test_invariants.py", "test_distributions.py", "test_objectives.py", "test_sampling.py")
RESERVE = 60.0  # seconds kept for writing the results
GRACE = 30  # seconds that a command has to save its work once its time is over
KEPT = ("metrics.jsonl", "report.html", "eval/*.json", "eval/sample.png")


class Report:
    """The commands that were run, in WORKDIR/results/gpu_report.json, and the time that is left."""

    def __init__(self, flags: argparse.Namespace, overrides: Sequence[str]):
        self.flags, self.overrides, self.end = flags, overrides, time.monotonic() + 60 * flags.minutes
        self.workdir, self.run = flags.workdir.resolve(), flags.workdir.resolve() / "run"
        self.results, self.file = self.workdir / "results", self.workdir / "results" / "gpu_report.json"
        self.results.mkdir(parents=True, exist_ok=True)
        self.done: dict[str, Any] = json.loads(self.file.read_text()) if self.file.exists() else {}

    @property
    def left(self) -> float:
        return max(0.0, self.end - RESERVE - time.monotonic())

    def say(self, text: str) -> None:
        print(f"[{self.left / 60:4.1f} min left] {text}", flush=True)

    def do(self, name: str, arguments: Sequence[str], seconds: float, of: Any = None) -> str:
        """Runs Python with these arguments, unless that is done at this commit; ``ok``, ``failed`` or ``time`` (over).

        Args:
          of: what the result depends on, beside the arguments and the commit (JSON); None: the command itself keeps
            what it has done, and is run again.
        """
        asked, old = {"arguments": list(arguments), "commit": commit(), "of": of}, self.done.get(name, {})
        if of and asked["commit"] and asked.items() <= old.items() and old["status"] == "ok":
            self.say(f"{name}: done before")
            return "ok"
        if seconds < 1:
            self.say(f"{name}: no time left")
            return "time"
        log, start = self.workdir / "logs" / f"{name.replace(' ', '_')}.log", time.monotonic()
        log.parent.mkdir(exist_ok=True)
        with log.open("w") as file:
            # Ends the command and all that it started; when this process is ended too.
            command = ["timeout", f"--kill-after={GRACE}", f"{seconds:.0f}", sys.executable, *arguments]
            process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
            try:
                process.wait()
            finally:
                process.terminate()
                process.wait()
        status = {0: "ok", 124: "time", -signal.SIGKILL: "time"}.get(process.returncode, "failed")
        said = log.read_text(errors="replace").strip().splitlines()[-1 if status == "ok" else -8 :]
        found = asked | {"status": status, "seconds": round(time.monotonic() - start, 1), "said": said}
        self.done[name] = found
        self.file.write_text(json.dumps(self.done, indent=1) + "\n")
        self.say(f"{name}: {status} after {found['seconds']:.0f} s\n  " + "\n  ".join(said))
        return status


def probe(report: Report) -> None:
    """Sees the machine and the data, in a process of its own: this one never holds the device.

    Raises:
      SystemExit: they are not what is needed.
    """
    out, flags = report.results / "machine.json", report.flags
    probing = ["-m", "benchmarks.measure", "probe", f"--config={flags.config}", *report.overrides, f"--out={out}"]
    if report.do("probe", probing, 180) != "ok":
        raise SystemExit("gpu_report: the machine or the data cannot be used")
    machine = json.loads(out.read_text())
    if flags.platform not in ("", machine["platform"]):
        raise SystemExit(f"gpu_report: --platform={flags.platform} is asked for, JAX sees {machine['platform']}")
    # Tests run where JAX does by default (tests/conftest.py), and share the device's memory side by side.
    os.environ.setdefault("JAX_PLATFORMS", "cpu" if machine["platform"] == "cpu" else "")


def commands(stage: str, report: Report, seconds: float) -> list[tuple[str, list[str], Any]]:
    """Name, arguments of Python and what the result depends on (see `Report.do`) of a stage's commands."""
    flags, run = report.flags, f"--workdir={report.run}"
    if stage == "tests":
        workers = ["-n", str(min(8, os.cpu_count() // 2)), "--dist=loadgroup"]
        beside = workers if importlib.util.find_spec("xdist") else []
        return [("tests", ["-m", "pytest", "-q", *beside, *shlex.split(flags.tests)], "commit")]
    if stage == "benchmarks":
        each = ["--each=2", f"--minutes={seconds / 60:.1f}", f"--out={report.results / 'benchmarks'}"]
        return [("benchmarks", ["-m", "benchmarks.run", f"benchmarks/{flags.benchmarks}.txt", *each], None)]
    if stage == "train":
        return [("train", ["train.py", f"--config={flags.config}", run, *report.overrides], None)]
    step = [line["step"] for line in read_metrics(report.run)][-1:]
    evaluate = ["evaluate.py", run, "--eval.transfer=()", *shlex.split(flags.evaluate)]
    return [  # a few sets first, for a number in any case
        ("evaluate few sets", [*evaluate, "--tasks=likelihood", "--eval.max_sets=64"], step),
        ("evaluate sample and classify", [*evaluate, "--tasks=sample,classify"], step),
        ("evaluate all sets", [*evaluate, "--tasks=likelihood", "--eval.max_sets=0"], step),
    ]


def collect(report: Report) -> None:
    """The page and the weights of the run, and what else is kept of it, into WORKDIR/results."""
    if any((report.run / "checkpoints").glob("[0-9]*")):
        report.do("page", ["evaluate.py", f"--workdir={report.run}", "--tasks=report"], RESERVE / 2)
        report.do("export", ["-m", "scripts.export", str(report.run), str(report.results)], RESERVE / 2)
    for path in (path for pattern in KEPT for path in report.run.glob(pattern)):
        shutil.copy(path, report.results)
    report.say(f"results: {report.results}")


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--minutes", type=float, default=30.0, help="of this call, all included")
    add("--config", default="configs/omniglot_scha_vae_lag.py", help="what is trained")
    add("--workdir", type=Path, default=Path("runs/gpu_report"), help="folder that calls go on in")
    add("--stages", type=lambda text: text.split(","), default=list(SHARES), help=",".join(SHARES))
    add("--platform", default="", help="refuse any other platform of JAX than this (gpu, tpu, cpu)")
    add("--tests", default=" ".join(f"tests/{name}" for name in FILES), help="arguments of pytest")
    add("--benchmarks", default="accelerator", help="a list benchmarks/NAME.txt")
    add("--evaluate", default="", help="more flags of evaluate.py, as one argument")
    flags, others = parser.parse_known_args(argv)
    if wrong := [other for other in others if not other.startswith("--config.")]:
        parser.error(f"unknown arguments {' '.join(wrong)}; train.py's look like --config.SECTION.KEY=VALUE")
    if unknown := set(flags.stages) - set(SHARES):
        parser.error(f"no such stages: {', '.join(sorted(unknown))}; there are {', '.join(SHARES)}")
    return flags, others


def main(argv: Sequence[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what runs is ended, and what is there collected
    report = Report(*parse(argv))
    os.environ.setdefault("HFSGM_CACHE", str(ROOT / ".cache" / "data"))
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    probe(report)
    stages = [stage for stage in SHARES if stage in report.flags.stages]
    try:
        for number, stage in enumerate(stages):
            seconds = report.left * SHARES[stage] / sum(SHARES[later] for later in stages[number:])
            end = time.monotonic() + seconds
            for name, arguments, of in commands(stage, report, seconds):
                report.do(name, arguments, end - time.monotonic(), of)
    finally:
        collect(report)
    failed = [name for name, record in report.done.items() if record["status"] == "failed"]
    if failed:
        report.say(f"failed: {', '.join(failed)}; see {report.workdir / 'logs'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
