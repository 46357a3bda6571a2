"""Measurements one after another, each in a process of its own: peak memory is that of one, a failure costs one."""

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from scripts.benchmark import command
from scripts.machine import ROOT, commit

RESULTS = ROOT / "benchmarks" / "results"


@dataclasses.dataclass(frozen=True)
class Item:
    """One measurement: ``python -m benchmarks.KIND ARGUMENTS``, kept in ``NAME.json``."""

    name: str
    kind: str
    arguments: tuple[str, ...]


def run(items: Iterable[Item], folder: Path = RESULTS, again: bool = False, minutes: float = 0.0) -> list[str]:
    """Measures what ``folder`` does not hold yet; lines on what is done go to standard output.

    Args:
      again: measure also what the folder holds from this commit (`kept`).
      minutes: after which no new measurement begins (0: no limit). Running again does what is left.

    Returns:
      The names of items without a result: failed ones and those for which no time was left.
    """
    items, missing, begin = list(items), [], time.monotonic()
    for number, item in enumerate(items, 1):
        path, title = folder / f"{item.name}.json", f"[{number}/{len(items)}] {item.name}"
        if not again and kept(item, path):
            print(f"{title}: kept, measured at this commit (--again measures anew)", flush=True)
        elif minutes and time.monotonic() - begin > 60 * minutes:
            print(f"{title}: left out, {minutes:g} minutes are over", flush=True)
            missing.append(item.name)
        elif error := _measure(item, path):
            print(f"{title}: FAILED\n{error}", flush=True)
            missing.append(item.name)
        else:
            print(f"{title}: measured, {(time.monotonic() - begin) / 60:.1f} minutes so far", flush=True)
    return missing


def kept(item: Item, path: Path) -> bool:
    """Whether a file holds the result of this measurement at this commit."""
    try:
        result = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    same = result.get("command") == command(item.kind, list(item.arguments))
    return same and result.get("commit") is not None and result["commit"] == commit()


def _measure(item: Item, path: Path) -> str | None:
    """Runs one measurement; the end of what it said if it failed."""
    typed = [sys.executable, "-m", f"benchmarks.{item.kind}", *item.arguments, f"--out={path}"]
    done = subprocess.run(typed, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return "\n".join(done.stderr.strip().splitlines()[-8:]) or "no message" if done.returncode else None


def report(missing: list[str]) -> int:
    """Says what is missing; the exit status."""
    if missing:
        print(f"without a result: {', '.join(missing)}; running again measures only these")
    return 1 if missing else 0
