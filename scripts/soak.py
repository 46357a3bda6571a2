"""Kills trainings at random moments, restarts them, and compares with trainings that nobody disturbed.

    python -m scripts.soak runs/soak [KILLS [SEED]]   # 10 of each model, 0

Two tiny models on procedural characters, which between them have every part of a training state: a SCHA-VAE with
averaged parameters and a plateau schedule, and a Homoencoder with batch statistics. Each is trained by train.py and
killed so often (SIGKILL, every fourth time SIGTERM): while it starts, at any time after some lines of its log, or while
it saves. In the end it must have the same checkpoint to the bit, the same validations and the same pictures as the run
without kills. Writes results/soak/results.json; exit status 1 if anything differs.
"""

import datetime
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

from hfsgm_jax.run_folder import CHECKPOINTS, SCORE, facts, read_item, read_metrics
from scripts.machine import ROOT, machine, write

# In a line of metrics: times, and means since the line before, which SIGTERM may have written at any step.
OTHER = ("seconds", "images_per_second", "compile_seconds", "train/", "grad_norm")
CYCLE = 20  # steps between evaluations
MOMENTS = {"start": 15.0, "save": 0.5, "any": 1.0}  # -> seconds that it takes at most
COMMON = f"""data.source=strokes data.resize=box data.set_size=3 data.sets_per_batch=4 model.width=8 model.c_channels=2
model.z_channels=2 optimizer.learning_rate=1e-3 train.log_every=5 train.eval_every={CYCLE} train.save_every=10
train.devices=1 train.minutes=0 eval.val_sets=256 eval.sets_per_batch=4"""
MODELS = {
    "scha_vae": "--config=configs/quickstart.py model.encoder=8-1,1-1 model.latents=8-1,1-1 model.decoder=8-1 "
    f"model.heads=2 optimizer.schedule=plateau optimizer.patience=1 train.sample_every={CYCLE}",
    # Drawing pixel by pixel would be most of its time.
    "pixelcnn_vhe": "--config=configs/cpu_vhe.py:vhe model.blocks=1 model.pixelcnn_layers=1 model.pixelcnn_width=8 "
    "model.context_prior=normal train.sample_every=0 optimizer.schedule=constant",  # not a cosine over train.steps
}
ENVIRONMENT = {  # tiny programs: what takes time is their compilation
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}


def start(model: str, folder: Path, steps: int) -> subprocess.Popen:
    """train.py in the background, its output in the file FOLDER.log."""
    config, *changes = MODELS[model].split()
    changes = [f"--config.{change}" for change in (*COMMON.split(), *changes, f"train.steps={steps}")]
    environment = os.environ | ENVIRONMENT | {"JAX_COMPILATION_CACHE_DIR": str(folder.parent / "xla")}
    with folder.with_suffix(".log").open("w") as log:
        command = [sys.executable, "train.py", config, f"--workdir={folder}", *changes]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log)


def kill(model: str, folder: Path, moment: str, number: signal.Signals, rng: random.Random) -> dict[str, Any]:
    """Starts a run, kills it at such a moment, and says where it was."""
    lines, log = rng.randrange(5, 13), folder.with_suffix(".log")  # by then it has validated, drawn and saved
    training = start(model, folder, steps=10**6)
    saving = lambda: any((folder / CHECKPOINTS).glob("*.orbax-checkpoint-tmp*"))
    steps = lambda: [line for line in log.read_text().splitlines() if line.startswith("step ")]
    reached = lambda: moment == "start" or (len(steps()) >= lines and (moment == "any" or saving()))
    while training.poll() is None and not reached():
        time.sleep(0.002)
    time.sleep(rng.uniform(0, MOMENTS[moment]))
    training.send_signal(number)
    status = training.wait()
    return {"moment": moment, "signal": number.name, "exit_status": status, "left_half_saved": saving()}


def contents(folder: Path, step: int) -> dict[str, Any]:
    """What two runs have to have in common: arrays of the last checkpoint, its validation, all of them, pictures."""
    checkpoint = (folder / CHECKPOINTS / str(step)).absolute()
    items = {name: read_item(checkpoint / name) for name in ("model", "training")}
    arrays = jax.tree_util.tree_leaves_with_path(items)
    untimed = lambda line: {key: value for key, value in line.items() if not key.startswith(OTHER)}
    return {
        "arrays": {jax.tree_util.keystr(path): np.asarray(x).tobytes() for path, x in arrays},
        "validation": untimed(facts(checkpoint)),
        "metrics": [untimed(line) for line in read_metrics(folder) if SCORE in line],
        "pictures": {path.name: path.read_bytes() for path in (folder / "samples").glob("*.png")},
    }


def soak(model: str, folder: Path, kills: int, rng: random.Random) -> dict[str, Any]:
    """Trains one model with kills and without; the record of it."""
    cut, whole, records = folder / "killed", folder / "whole", []
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for index in range(kills):
        moment = ("start", "save", "any", "save", "any")[index % 5]
        records.append(kill(model, cut, moment, signal.SIGTERM if index % 4 == 3 else signal.SIGKILL, rng))
        print(model, index, records[-1], flush=True)
    steps = (max((line["step"] for line in read_metrics(cut)), default=0) // CYCLE + 1) * CYCLE
    for place in (cut, whole):
        if start(model, place, steps).wait():
            raise SystemExit(place.with_suffix(".log").read_text())
    found, expected = contents(cut, steps), contents(whole, steps)
    differences = [part for part in expected if found[part] != expected[part]]
    counts = {part: len(values) for part, values in expected.items()}
    return {
        "config": f"{MODELS[model]} {COMMON}",
        "kills": records,
        "steps": steps,
        **counts,
        "differences": differences,
    }


def main(folder: str, kills: str = "10", seed: str = "0") -> int:
    rng, began = random.Random(int(seed)), time.monotonic()
    runs = {name: soak(name, Path(folder) / name, int(kills), rng) for name in MODELS}
    identical = not any(run["differences"] for run in runs.values())
    minutes = round((time.monotonic() - began) / 60, 1)
    command = f"python -m scripts.soak DIR {kills} {seed}"
    result = {"command": command, "identical": identical, "minutes": minutes, **machine(), "runs": runs}
    write(result | {"date": datetime.date.today().isoformat()}, ROOT / "results" / "soak" / "results.json")
    return 0 if identical else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
