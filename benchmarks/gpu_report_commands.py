"""Commands under a time limit, and what is read from the files they leave."""

import dataclasses
import json
import os
import signal
import statistics
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hfsgm_jax.training.log import read_metrics
from scripts.machine import ROOT

GRACE = 20.0  # seconds that a command has to save its work once its time is over
TAIL = 2000  # characters of a failed command's output that are kept


@dataclasses.dataclass(frozen=True)
class Limit:
    """A moment to be ready by."""

    end: float  # of time.monotonic

    @classmethod
    def after(cls, seconds: float) -> "Limit":
        return cls(time.monotonic() + seconds)

    def left(self, reserve: float = 0.0) -> float:
        """Seconds left before it, less ``reserve``; not below 0."""
        return max(0.0, self.end - time.monotonic() - reserve)


def execute(command: Sequence[str], seconds: float, log: Path, env: Mapping[str, str]) -> dict[str, Any]:
    """Runs a command in the repository's root, output to the file ``log``; after ``seconds`` it is told to stop.

    Returns:
      ``command``, ``seconds``, ``exit``, ``status``: ok, failed or time (its time was over), and the ``tail`` of its
      output unless it is ok.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    start, over = time.monotonic(), False
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **env}, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            over = True
        finally:
            _stop(process)
    status = "time" if over else "ok" if process.returncode == 0 else "failed"
    record = {
        "command": " ".join(map(str, command[1:])),
        "seconds": round(time.monotonic() - start, 1),
        "exit": process.returncode,
        "status": status,
    }
    return record if status == "ok" else {**record, "tail": log.read_text(errors="replace")[-TAIL:]}


def _stop(process: subprocess.Popen) -> None:
    """SIGTERM, time to save, SIGKILL; to all that the command started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            continue


def write_json(path: Path, value: Any) -> None:
    """All of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(temporary, path)


def read_json(path: Path, default: Any) -> Any:
    """The content of a JSON file; ``default`` where there is none that can be read."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return default


def tests_of(path: Path) -> dict[str, Any]:
    """Numbers of tests in a JUnit file, and the names of those that failed; {} without one."""
    try:
        cases = list(ElementTree.parse(path).iter("testcase"))
    except (OSError, ElementTree.ParseError):
        return {}
    bad = [f"{c.get('classname')}::{c.get('name')}" for c in cases if {"failure", "error"} & {e.tag for e in c}]
    skipped = sum(case.find("skipped") is not None for case in cases)
    return {"passed": len(cases) - len(bad) - skipped, "failed": len(bad), "skipped": skipped, "failures": bad}


def training_of(run: Path) -> dict[str, Any]:
    """Where a run stands, from its metrics.jsonl: the last line, median speed, the best validation; {} without one."""
    lines = read_metrics(run)
    if not lines:
        return {}
    speeds = [line["images_per_second"] for line in lines if "images_per_second" in line]
    validated = [line for line in lines if isinstance(line.get("val/nelbo"), float)]
    best = min(validated, key=lambda line: line["val/nelbo"], default=None)
    return {
        "last": lines[-1],
        "images_per_second": statistics.median(speeds) if speeds else None,
        "compile_seconds": [line["compile_seconds"] for line in lines if "compile_seconds" in line],
        "best": best and {key: best[key] for key in ("step", "images", "seconds", "val/nelbo")},
    }


def evaluations_of(run: Path) -> dict[str, Any]:
    """Task -> its records."""
    found = {path.stem: read_json(path, []) for path in sorted((run / "eval").glob("*.json"))}
    return {task: records for task, records in found.items() if records}
