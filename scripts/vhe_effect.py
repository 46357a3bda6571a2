"""What the four objectives of the VHE papers do with the set latent of a model with an autoregressive decoder.

    python -m scripts.vhe_effect runs/vhe_effect [--seeds=3] [--steps=...] [--jobs=2]

Trains configs/cpu_vhe.py (images augmented as for Table 1 of the VHE paper) with every objective and seed, evaluates
each run on the test characters, and writes results/vhe_effect: results.json (every number, with its provenance),
table.md and curves.png. What is finished is not done again; an interrupted run continues.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats

from hfsgm_jax.evaluation import plots
from hfsgm_jax.training.log import read_metrics
from scripts.machine import machine

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "results" / "vhe_effect"
OBJECTIVES = ("ns", "resample", "rescale", "vhe")
EVALUATION = {
    "kl_layers": ["--eval.max_sets=320"],
    "classify": [
        "--eval.shots=(5,)",
        "--eval.episodes=10",
        "--eval.class_samples_c=5",
        "--eval.class_samples_z=2",
        "--eval.transfer=()",
        "--eval.within_alphabet=False",
    ],
    # Whole classes of 20: 20 samples of c, 5 of every image's t.
    "likelihood": [
        "--eval.set_size=20",
        "--eval.max_sets=50",
        "--eval.estimator=nested",
        "--eval.importance_samples=20",
        "--eval.importance_samples_z=5",
    ],
}
CLASSIFIERS = ("log_mean", "kl")


def run(folder: Path, objective: str, seed: int, steps: int, cores: int) -> dict[str, float]:
    """Trains and evaluates one run, or what of it is missing; returns its numbers, which it keeps beside the run."""
    done = folder / "measured.json"
    if not done.exists():
        environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(cores)}
        config = [f"--config=configs/cpu_vhe.py:{objective},augmented", f"--workdir={folder}"]
        changes = [f"--config.seed={seed}", f"--config.train.steps={steps}", "--config.eval.step=last"]
        with open(folder.with_suffix(".log"), "a") as log:
            settings = dict(cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, check=True)
            subprocess.run([sys.executable, "train.py", *config, *changes], **settings)
            for task, options in EVALUATION.items():
                command = [sys.executable, "evaluate.py", f"--workdir={folder}", f"--tasks={task}", *options]
                subprocess.run(command, **settings)
        done.with_suffix(".part").write_text(json.dumps(measured(folder), indent=1))
        done.with_suffix(".part").rename(done)
    numbers = json.loads(done.read_text())
    if numbers["step"] != steps:
        raise SystemExit(f"{folder} was trained for {numbers['step']} steps, not {steps}: name a new folder")
    return numbers


def measured(folder: Path) -> dict[str, float]:
    """The numbers of one run at its last step, as its records have them."""
    last = [line for line in read_metrics(folder) if "train/kl_c" in line][-1]
    records = {
        task: [r for r in json.loads((folder / "eval" / f"{task}.json").read_text()) if r["step"] == last["step"]]
        for task in EVALUATION
    }
    kl = [record["parts"]["per_set"] for record in records["kl_layers"] if record["name"].startswith("c")]
    accuracy = {record["method"]: record["value"] for record in records["classify"] if record["name"] == "accuracy"}
    nll = [record for record in records["likelihood"] if record["name"] == "nll"]
    return {
        "kl_c": sum(kl),
        **{f"accuracy_{name}": accuracy[name] for name in CLASSIFIERS},
        "nll": max(nll, key=lambda record: record["importance_samples"])["value"],
        "images": last["images"],
        "minutes": last["seconds"] / 60,
        "step": last["step"],
    }


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half of its 95 % interval by Student's t over seeds."""
    mean, n = float(np.mean(values)), len(values)
    return mean, float(scipy.stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n)) if n > 1 else math.nan


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Rows: objectives; mean and 95 % interval over seeds."""
    columns = {
        "KL of c, nats per set": ("kl_c", "{:.2f} ± {:.2f}", 1),
        "20-way 5-shot, log p(x given c), %": ("accuracy_log_mean", "{:.1f} ± {:.1f}", 100),
        "the same by KL of contexts, %": ("accuracy_kl", "{:.1f} ± {:.1f}", 100),
        "NLL of whole classes, nats per image": ("nll", "{:.2f} ± {:.2f}", 1),
        "images seen": ("images", "{:,.0f}", 1),
        "minutes": ("minutes", "{:.1f}", 1),
    }
    lines = ["| objective | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for objective, runs in results.items():
        cells = []
        for key, form, factor in columns.values():
            cells.append(form.format(*(factor * value for value in interval([run[key] for run in runs]))))
        lines.append(f"| `{objective}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def curves(folders: dict[str, list[Path]], path: Path) -> None:
    """KL of c and NELBO in training against images seen, a line per run."""
    page, axes = plots.figure(2)
    for color, (objective, runs) in zip(plots.COLORS, folders.items()):
        for number, folder in enumerate(runs):
            lines = [line for line in read_metrics(folder) if "train/kl_c" in line]
            images = [line["images"] / 1000 for line in lines]
            label = objective if number == 0 else None
            axes[0].plot(images, [max(line["train/kl_c"], 1e-4) for line in lines], color=color, label=label, lw=1)
            axes[1].plot(images, [line["train/nelbo"] for line in lines], color=color, label=label, lw=1)
    axes[0].set(xlabel="images seen, thousands", ylabel="what c costs, nats per image", yscale="log")
    axes[1].set(xlabel="images seen, thousands", ylabel="training objective, nats per image", ylim=(None, 150))
    axes[0].legend()
    plots.save(page, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    seeds = range(arguments.seeds)
    folders = {name: [arguments.folder / f"{name}_{seed}" for seed in seeds] for name in OBJECTIVES}
    cores = max(1, len(os.sched_getaffinity(0)) // arguments.jobs)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        jobs = {
            (name, seed): pool.submit(run, folders[name][seed], name, seed, arguments.steps, cores)
            for seed in seeds
            for name in OBJECTIVES
        }
        results = {name: [jobs[name, seed].result() for seed in seeds] for name in OBJECTIVES}
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    provenance = {"machine": machine(), "commit": commit.stdout.strip(), "evaluation": EVALUATION}
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "results.json").write_text(json.dumps({**provenance, "runs": results}, indent=1) + "\n")
    (OUT / "table.md").write_text(table(results) + "\n")
    curves(folders, OUT / "curves.png")
    print(table(results))


if __name__ == "__main__":
    main()
