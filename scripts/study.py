"""What studies of many runs share: train and evaluate variants side by side, keep the numbers of each, draw, record."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats

from hfsgm_jax.evaluation import plots
from hfsgm_jax.training.log import read_metrics
from scripts import readme
from scripts.machine import machine

ROOT = Path(__file__).resolve().parent.parent
Numbers = dict[str, Any]
Evaluation = tuple[str, Sequence[str]]  # a task and its options


@dataclasses.dataclass(frozen=True)
class Variant:
    """One run: a config file (with its argument), changes ``SECTION.KEY=VALUE``, and the steps it trains for."""

    name: str
    config: str
    steps: int
    changes: tuple[str, ...] = ()


def measure(
    folder: Path,
    variants: Sequence[Variant],
    evaluations: Sequence[Evaluation],
    numbers: Callable[[Path], Numbers],
    jobs: int,
) -> dict[str, Numbers]:
    """Trains and evaluates ``variants``, ``jobs`` at a time; returns name -> what ``numbers`` reads, and the commit.

    A finished variant is not done again, an interrupted one goes on: its numbers are kept as measured.json in its run.

    Args:
      folder: holds one run per variant, and its log.
      evaluations: tasks with their options of evaluate.py. Numbers of other evaluations are not taken for these.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cores = max(1, len(os.sched_getaffinity(0)) // jobs)
    with ThreadPoolExecutor(jobs) as pool:
        found = [pool.submit(_measured, folder / v.name, v, evaluations, numbers, cores) for v in variants]
        return {variant.name: result.result() for variant, result in zip(variants, found, strict=True)}


def _measured(
    folder: Path, variant: Variant, evaluations: Sequence[Evaluation], numbers: Callable, cores: int
) -> Numbers:
    kept = folder / "measured.json"
    asked = json.loads(json.dumps(dataclasses.asdict(variant) | {"evaluations": evaluations}))
    if not kept.exists():
        commit = machine()["commit"]
        _train_and_evaluate(folder, variant, evaluations, cores)
        text = json.dumps({"asked": asked, "numbers": numbers(folder) | {"commit": commit}}, indent=1)
        kept.with_suffix(".part").write_text(text)
        kept.with_suffix(".part").rename(kept)
    found = json.loads(kept.read_text())
    if found["asked"] != asked:
        raise SystemExit(
            f"{kept} has the numbers of {found['asked']}, not of {asked}: remove it if only the evaluations differ, "
            "and name a new folder if the training does"
        )
    return found["numbers"]


def _train_and_evaluate(folder: Path, variant: Variant, evaluations: Sequence[Evaluation], cores: int) -> None:
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(cores)}
    changes = [f"--config.{change}" for change in (f"train.steps={variant.steps}", *variant.changes)]
    with open(folder.with_suffix(".log"), "a") as log:
        settings = dict(cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, check=True)
        command = [sys.executable, "train.py", f"--config={variant.config}", f"--workdir={folder.resolve()}"]
        subprocess.run([*command, *changes], **settings)
        for task, options in evaluations:
            command = [sys.executable, "evaluate.py", f"--workdir={folder.resolve()}", f"--tasks={task}"]
            subprocess.run([*command, "--eval.step=last", *options], **settings)


def records(folder: Path, task: str) -> list[dict[str, Any]]:
    """Records of ``task`` at the last step of the run in ``folder``."""
    step = training(folder)["step"]
    return [r for r in json.loads((folder / "eval" / f"{task}.json").read_text()) if r["step"] == step]


def training(folder: Path) -> dict[str, Any]:
    """The last line of the run's metrics."""
    return [line for line in read_metrics(folder) if "train/nelbo" in line][-1]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half of its 95 % interval by Student's t; NaN of a single value."""
    mean, n = float(np.mean(values)), len(values)
    return mean, float(scipy.stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n)) if n > 1 else math.nan


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(out: Path, results: dict[str, Any], table: str) -> None:
    """results.json, with the machine and the commit, and the table in README.md's part of the folder's name."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps({"machine": machine(), **results}, indent=1) + "\n")
    readme.write(out.name, table)
    print(table)


def curves(
    groups: Mapping[str, Sequence[Path]],
    panels: Mapping[str, tuple[str, dict]],
    path: Path,
    factor: Callable[[str, str], float] = lambda group, key: 1.0,
) -> None:
    """Curves against images seen: a colour (or its dashes) per group of runs, a panel per metric.

    Args:
      panels: a key of metrics.jsonl -> (label of the axis, what ``Axes.set`` takes beside).
      factor: (group, key) -> what its values are multiplied by.
    """
    page, axes = plots.figure(len(panels))
    for number, (name, runs) in enumerate(groups.items()):
        for first, folder in zip([True] + [False] * len(runs), runs):
            for axis, key in zip(axes, panels, strict=True):
                lines = [line for line in read_metrics(folder) if key in line]
                style = dict(color=plots.COLORS[number % len(plots.COLORS)], lw=1)
                style["linestyle"] = ("-", "--", ":")[number // len(plots.COLORS) % 3]
                x = [line["images"] / 1000 for line in lines]
                axis.plot(x, [factor(name, key) * line[key] for line in lines], label=name if first else None, **style)
    for axis, (label, settings) in zip(axes, panels.values(), strict=True):
        axis.set(xlabel="images seen, thousands", ylabel=label, **settings)
    if len(groups) > len(plots.COLORS):  # too many to find room among the curves
        page.legend(*axes[0].get_legend_handles_labels(), fontsize=7, loc="outside right upper")
    else:
        axes[0].legend(fontsize=7)
    plots.save(page, path)
