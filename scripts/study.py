"""The runner of studies: trains and evaluates variants side by side, keeps the numbers of each, draws, records.

A study is a module with a `Study` (`recipes`, `vhe_effect`): ``python -m scripts.NAME FOLDER [--seeds=...] [--jobs=2]
[--config.SECTION.KEY=VALUE ...]``. FOLDER holds a run per variant and seed, and its log; an interrupted study goes on,
and what is finished is not done again. Written are results/NAME/results.json (every number, with its commit),
results/NAME/curves.png, and the table in the part NAME of docs/results.md.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from hfsgm_jax.evaluation import plots
from hfsgm_jax.run_folder import read_metrics
from scripts import readme
from scripts.machine import ROOT, commit, machine

Numbers = dict[str, Any]
Runs = Mapping[str, Sequence[Numbers]]  # variant -> its numbers, one per seed


class Study(NamedTuple):
    """Trainings, their evaluation and the table of results.

    Attributes:
      name: of its folder in results/, and of its part of docs/results.md.
      variants: name -> arguments of train.py.
      evaluations: arguments of evaluate.py.
      numbers: folder of a run -> numbers of its records at its last step.
      table: Markdown of them.
      panels: a key of metrics.jsonl -> label of the axis, what ``Axes.set`` takes beside.
      factor: (variant, key) -> what the values of a curve are multiplied by.
      seeds: how many, unless told otherwise.
    """

    name: str
    variants: Mapping[str, Sequence[str]]
    evaluations: Sequence[Sequence[str]]
    numbers: Callable[[Path], Numbers]
    table: Callable[[Runs], str]
    panels: Mapping[str, tuple[str, dict]]
    factor: Callable[[str, str], float] = lambda variant, key: 1.0
    seeds: int = 1

    @property
    def out(self) -> Path:
        return ROOT / "results" / self.name


def measure(study: Study, folder: Path, arguments: Sequence[str], cores: int) -> Numbers:
    """Trains with these arguments of train.py in ``folder`` and evaluates, unless that is done; the numbers."""
    file, asked = folder / "measured.json", json.loads(json.dumps([*arguments, study.evaluations]))
    measured = json.loads(file.read_text()) if file.exists() else {"commit": commit()}
    if measured.get("asked") == asked:
        return measured["numbers"]
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".log"), "a") as log:
        environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(cores)}
        settings = dict(cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, check=True)
        run = f"--workdir={folder.resolve()}"
        subprocess.run([sys.executable, "train.py", run, *arguments], **settings)
        for evaluation in study.evaluations:
            subprocess.run([sys.executable, "evaluate.py", run, "--eval.step=last", *evaluation], **settings)
    last = training(folder)
    numbers = study.numbers(folder) | {"images": last["images"], "step": last["step"], "commit": measured["commit"]}
    file.write_text(json.dumps({"asked": asked, "numbers": numbers, "commit": measured["commit"]}, indent=1))
    return numbers


def training(folder: Path) -> dict[str, Any]:
    """The last line of the run's metrics."""
    return [line for line in read_metrics(folder) if "train/nelbo" in line][-1]


def records(folder: Path, task: str) -> list[dict[str, Any]]:
    """Records of ``task`` at the last step of the run in ``folder``."""
    step = training(folder)["step"]
    return [r for r in json.loads((folder / "eval" / f"{task}.json").read_text()) if r["step"] == step]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half of its 95 % interval by Student's t; NaN of a single value."""
    mean, n = float(np.mean(values)), len(values)
    return mean, float(scipy.stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n)) if n > 1 else math.nan


def curves(study: Study, folders: Mapping[str, Sequence[Path]], path: Path) -> None:
    """Curves against images seen: a colour per variant, a panel per metric."""
    page, axes = plots.figure(len(study.panels))
    for axis, (key, (label, settings)) in zip(axes, study.panels.items(), strict=True):
        for number, (name, runs) in enumerate(folders.items()):
            for first, folder in enumerate(runs):
                lines = [line for line in read_metrics(folder) if key in line]
                x = [line["images"] / 1000 for line in lines]
                y = [study.factor(name, key) * line[key] for line in lines]
                axis.plot(x, y, label=None if first else name, color=f"C{number}", lw=1)
        axis.set(xlabel="images seen, thousands", ylabel=label, **settings)
    page.legend(*axes[0].get_legend_handles_labels(), fontsize=7, loc="outside right upper")
    plots.save(page, path)


def main(study: Study) -> None:
    """The program of a study; see the top of this module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=study.seeds)
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side")
    flags, changes = parser.parse_known_args()
    variants = {name: [*arguments, *changes] for name, arguments in study.variants.items()}
    cores, seeds = max(1, len(os.sched_getaffinity(0)) // flags.jobs), range(flags.seeds)
    folders = {name: [flags.folder / f"{name.replace(' ', '_')}_{seed}" for seed in seeds] for name in variants}

    def one(name: str, seed: int) -> Numbers:
        return measure(study, folders[name][seed], [*variants[name], f"--config.seed={seed}"], cores)

    with ThreadPoolExecutor(flags.jobs) as pool:
        found = {(name, seed): pool.submit(one, name, seed) for seed in seeds for name in variants}
    runs = {name: [found[name, seed].result() for seed in seeds] for name in variants}
    study.out.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine(), "evaluations": study.evaluations, "variants": variants, "runs": runs}
    (study.out / "results.json").write_text(json.dumps(content) + "\n")
    table = study.table(runs)
    readme.write(study.name, table)
    print(table)
    curves(study, folders, study.out / "curves.png")
