"""Kills trainings at random moments, restarts them, and compares with trainings that nobody disturbed.

    python -m scripts.soak runs/soak [--kills=20] [--seed=0] [--out=results/soak]

Two tiny models on procedural characters, which between them have every part of a training state: a SCHA-VAE with
averaged parameters and a plateau schedule, and a Homoencoder with batch statistics. Each is trained by train.py and
killed (SIGKILL, every fourth time SIGTERM) while it starts or trains, and mostly while it validates, draws or saves.
In the end it must have the same checkpoint to the bit, the same lines of metrics and the same pictures as the run
without kills. Writes results.json and log.txt; exit status 1 if anything differs.
"""

import argparse
import datetime
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hfsgm_jax.run_folder import CHECKPOINTS, facts, read_item, read_metrics
from scripts.machine import ROOT, machine

TIMED = ("seconds", "images_per_second", "compile_seconds")
CYCLE = 20  # steps between evaluations
COMMON = f"""data.source=strokes data.set_size=3 data.sets_per_batch=4 model.width=8 model.c_channels=2
model.z_channels=2 optimizer.learning_rate=1e-3 train.log_every=5 train.eval_every={CYCLE} train.save_every=10
train.devices=1 train.minutes=0 eval.val_sets=256 eval.sets_per_batch=4"""
MODELS = {
    "scha_vae": "--config=configs/quickstart.py model.encoder=8-1,1-1 model.latents=8-1,1-1 model.decoder=8-1 "
    f"model.heads=2 optimizer.schedule=plateau optimizer.patience=1 train.sample_every={CYCLE}",
    # Drawing pixel by pixel would be most of its time.
    "pixelcnn_vhe": "--config=configs/cpu_vhe.py:vhe model.blocks=1 model.pixelcnn_layers=1 model.pixelcnn_width=8 "
    "model.context_prior=normal train.sample_every=0",
}
# One kill in each, again and again; every fourth is a SIGTERM. Phase -> seconds that it takes at most.
PHASES = ("start", "save", "evaluation", "save", "training", "save", "start", "evaluation", "save", "evaluation")
TAKES = {"start": 15.0, "training": 0.5, "save": 0.5, "evaluation": 1.0}
# Tiny programs: what takes time is their compilation.
XLA_FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def start(model: str, folder: Path, steps: int) -> subprocess.Popen:
    """train.py in the background, its output in the file FOLDER.log."""
    config, *changes = MODELS[model].split()
    changes = [f"--config.{change}" for change in (*COMMON.split(), *changes, f"train.steps={steps}")]
    environment = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": XLA_FLAGS, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    environment |= {"JAX_COMPILATION_CACHE_DIR": str(folder.parent / "xla")}
    environment |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    with folder.with_suffix(".log").open("w") as log:
        command = [sys.executable, "train.py", config, f"--workdir={folder}", *changes]
        return subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stderr=log)


def kill(model: str, folder: Path, phase: str, number: signal.Signals, rng: random.Random) -> dict[str, Any]:
    """Starts a run, kills it in this phase, and says where it was."""
    began, lines = time.monotonic(), rng.randrange(5, 13)  # of 5 steps each: by then it has validated, drawn and saved
    training, log = start(model, folder, steps=10**6), folder.with_suffix(".log")
    saving = lambda: any((folder / CHECKPOINTS).glob("*.orbax-checkpoint-tmp*"))
    said = lambda: [line for line in log.read_text().splitlines() if line.startswith("step ")]
    step = lambda: int(said()[-1].split()[1].split("/")[0])
    reached = {
        "start": lambda: True,
        "training": lambda: len(said()) >= lines,
        "save": lambda: len(said()) >= lines and saving(),
        "evaluation": lambda: len(said()) >= lines and step() % CYCLE == CYCLE - 5,  # the last line before one
    }[phase]
    while training.poll() is None and not reached():
        time.sleep(0.002)
    time.sleep(rng.uniform(0, TAKES[phase]))
    alive = training.poll() is None
    training.send_signal(number)
    status, text = training.wait(), [line.replace(str(folder), "DIR") for line in log.read_text().splitlines()]
    return {
        "phase": phase,
        "signal": number.name,
        "seconds": round(time.monotonic() - began, 1),
        "was_running": alive,
        "exit_status": status,
        "said": [line[:80] for line in (*(x for x in text if x.startswith("continuing")), *text[-1:])],
        "left_half_saved": saving(),
        "warnings": [line[:200] for line in text if "cannot be read" in line or "Error" in line],
    }


def arrays_of(folder: Path, step: int) -> dict[str, np.ndarray]:
    """Every array of a checkpoint, by its name."""
    items = {name: read_item((folder / CHECKPOINTS / str(step) / name).absolute()) for name in ("model", "training")}
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(items)}


def differences(folder: Path, whole: Path, step: int) -> list[str]:
    """Differences between two runs: arrays of the last checkpoint, its validation, lines of metrics, pictures."""
    mine, other = arrays_of(folder, step), arrays_of(whole, step)
    same = lambda name: name in mine and name in other and mine[name].tobytes() == other[name].tobytes()
    found = [name for name in sorted(mine.keys() | other.keys()) if not same(name)]
    untimed = lambda line: {key: value for key, value in line.items() if key not in TIMED}
    views = {
        "validation": lambda run: untimed(facts(run / CHECKPOINTS / str(step))),
        "metrics": lambda run: [untimed(line) for line in read_metrics(run)],
        "samples": lambda run: sorted((path.name, path.read_bytes()) for path in (run / "samples").glob("*.png")),
    }
    return found + [name for name, view in views.items() if view(folder) != view(whole)]


def soak(model: str, folder: Path, kills: int, rng: random.Random, say) -> dict[str, Any]:
    """Trains one model with kills and without; the record of it."""
    cut, whole, records = folder / "killed", folder / "whole", []
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    say(model)
    for index in range(kills):
        number = signal.SIGTERM if index % 4 == 3 else signal.SIGKILL
        records.append(kill(model, cut, PHASES[index % len(PHASES)], number, rng))
        say(f"  kill {index + 1}: " + ", ".join(f"{k} {v}" for k, v in records[-1].items() if v not in ("", [])))
    steps = (max((line["step"] for line in read_metrics(cut)), default=0) // CYCLE + 1) * CYCLE
    for place in (cut, whole):
        if start(model, place, steps).wait():
            raise SystemExit(place.with_suffix(".log").read_text())
    found, count = differences(cut, whole, steps), {"arrays": len(arrays_of(whole, steps))}
    count["lines"] = len(read_metrics(whole))
    say(f"  step {steps}, {count}: {'the same to the bit' if not found else found}")
    return {"steps": steps, "config": f"{MODELS[model]} {COMMON}", "kills": records, **count, "differences": found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "soak")
    flags = parser.parse_args()
    rng, began, log = random.Random(flags.seed), time.monotonic(), []

    def say(text: str) -> None:
        log.append(text)
        print(text, flush=True)

    shares = {name: (flags.kills + 1 - n) // 2 for n, name in enumerate(MODELS)}
    runs = {name: soak(name, flags.folder / name, share, rng, say) for name, share in shares.items()}
    identical = not any(run["differences"] for run in runs.values())
    minutes = round((time.monotonic() - began) / 60, 1)
    say(f"{flags.kills} kills in {minutes} minutes: {'all the same' if identical else 'DIFFERENT'}")
    command = f"python -m scripts.soak DIR --kills={flags.kills} --seed={flags.seed}"
    result = {"command": command, "identical": identical, "minutes": minutes, "runs": runs, **machine()}
    result |= {"xla_flags": XLA_FLAGS, "date": datetime.date.today().isoformat()}
    flags.out.mkdir(parents=True, exist_ok=True)
    (flags.out / "results.json").write_text(json.dumps(result, indent=1) + "\n")
    (flags.out / "log.txt").write_text("\n".join(log) + "\n")
    return 0 if identical else 1


if __name__ == "__main__":
    sys.exit(main())
