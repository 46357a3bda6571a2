"""The measurements of a list one after another, each in a process of its own (`measure`) and kept in its own file.

    python -m benchmarks.run benchmarks/standard.txt [--only=TEXT] [--minutes=11] [--each=10] [--out=benchmarks/results]

A line of the list is the name of the file, a colon, a KIND and FLAGS of benchmarks.measure. A file that holds the same
measurement at the same commit is kept; after --minutes (0: never) no new one begins, and running again does what is
left; one is ended after --each minutes. Another machine's results go to another folder
(--out=benchmarks/results/NAME). Nothing else should run meanwhile.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from scripts.machine import ROOT, commit


def read_list(path: Path) -> dict[str, str]:
    """Name -> kind and flags; lines that begin with # are comments."""
    lines = [line.split(":", 1) for line in path.read_text().splitlines() if line and line[0] != "#"]
    return {name: case.strip() for name, case in lines}


def measured(path: Path, case: str) -> bool:
    """True where the file holds this measurement at this commit."""
    try:
        result = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    same = result.get("command") == f"python -m benchmarks.measure {case}"
    return same and commit() is not None and result["commit"] == commit()


def measure(case: str, path: Path, minutes: float) -> str | None:
    """Runs one measurement; the end of its output if it failed."""
    command = [sys.executable, "-m", "benchmarks.measure", *case.split(), f"--out={path}"]
    settings = dict(cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        done = subprocess.run(command, timeout=60 * minutes, **settings)
    except subprocess.TimeoutExpired:
        return f"ended after {minutes:g} minutes"
    return done.stderr.strip()[-1000:] or "no message" if done.returncode else None


def run(cases: dict[str, str], folder: Path, minutes: float, each: float) -> list[str]:
    """Measures the cases that ``folder`` does not hold yet; the names of those that are still without a result."""
    missing, begin = [], time.monotonic()
    for number, (name, case) in enumerate(cases.items(), 1):
        path, status, error = folder / f"{name}.json", "kept, measured at this commit", None
        if not measured(path, case):
            late = minutes and time.monotonic() - begin > 60 * minutes
            error = f"left out, {minutes:g} minutes are over" if late else measure(case, path, each)
            status = f"measured, {(time.monotonic() - begin) / 60:.1f} minutes so far"
        print(f"[{number}/{len(cases)}] {name}: {error or status}", flush=True)
        missing += [name] * (error is not None)
    return missing


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path, help="the list")
    parser.add_argument("--only", default="", help="measurements whose name contains this")
    parser.add_argument("--minutes", type=float, default=11.0, help="after which no new measurement begins")
    parser.add_argument("--each", type=float, default=10.0, help="minutes after which a measurement is ended")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the JSON files")
    flags = parser.parse_args(argv)
    cases = {name: case for name, case in read_list(flags.cases).items() if flags.only in name}
    if missing := run(cases, flags.out.resolve(), flags.minutes, flags.each):
        print(f"without a result: {', '.join(missing)}; running again measures only these")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
