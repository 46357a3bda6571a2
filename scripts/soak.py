"""Kills trainings at random moments, restarts them, and compares with trainings that nobody disturbed.

    python -m scripts.soak runs/soak [--kills=20] [--seed=0] [--out=results/soak]

Two tiny models on procedural characters, which between them have every part of a training state: a SCHA-VAE with
averaged parameters and a plateau schedule, and a Homoencoder with batch statistics. Each is trained by train.py and
killed (SIGKILL, every fourth time SIGTERM) while it starts, compiles, trains, and mostly while it validates, draws or
saves, when it has compiled everything, 25 to 60 steps after it began. In the end it must have the same checkpoint to
the bit and the same lines of metrics as the run without kills. Writes results.json and log.txt; exit status 1 if
anything differs.
"""

import argparse
import datetime
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from hfsgm_jax.training.log import read_metrics
from scripts.machine import machine

ROOT = Path(__file__).resolve().parent.parent
TIMED = ("seconds", "images_per_second", "compile_seconds")
CYCLE = 20  # steps between evaluations
COMMON = {
    "data.source": "strokes",
    "data.set_size": 3,
    "data.sets_per_batch": 4,
    "model.width": 8,
    "optimizer.learning_rate": 1e-3,
    "train.log_every": 5,
    "train.eval_every": CYCLE,
    "train.sample_every": CYCLE,
    "train.save_every": 10,
    "train.devices": 1,
    "train.progress": False,
    "eval.val_sets": 256,
    "eval.sets_per_batch": 4,
}
MODELS = {
    "scha_vae, averaged parameters, plateau": {
        **{"model.name": "scha_vae", "model.patch": 4, "model.encoder": "8-1,1-1", "model.latents": "8-1,1-1"},
        **{"model.decoder": "8-1", "model.c_channels": 2, "model.z_channels": 2, "optimizer.ema": 0.9},
        **{"optimizer.schedule": "plateau", "optimizer.patience": 1},
    },
    # Drawing pixel by pixel would be most of its time.
    "pixelcnn_vhe, batch statistics": {
        **{"model.name": "pixelcnn_vhe", "model.c_channels": 2, "model.z_channels": 2, "model.blocks": 1},
        **{"model.pixelcnn_layers": 1, "model.pixelcnn_width": 8, "model.context_prior": "normal"},
        **{"train.sample_every": 0},
    },
}
# One kill in each, again and again; every fourth is a SIGTERM.
PHASES = (
    *("compilation", "save", "evaluation", "save", "training"),
    *("save", "start-up", "evaluation", "save", "evaluation"),
)
USUAL = {"start-up": 12.0, "compilation": 5.0, "training": 0.5, "save": 0.5, "evaluation": 1.0}  # seconds they take
FOREVER = 10**6
# Tiny programs: what takes time is their compilation.
XLA_FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


class Training:
    """A run of train.py in the background, and what it says."""

    def __init__(self, folder: Path, config: dict[str, Any], steps: int):
        changes = [f"--config.{key}={value}" for key, value in {**COMMON, **config, "train.steps": steps}.items()]
        cache = folder.parent / "xla"
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PLATFORMS": "cpu"}
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        environment |= {"XLA_FLAGS": XLA_FLAGS, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
        command = [sys.executable, "train.py", "--config=configs/base.py", f"--workdir={folder}", *changes]
        self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        self.began, self.lines, self.times = time.monotonic(), [], []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stderr:
            self.lines.append(line.rstrip())
            self.times.append(time.monotonic() - self.began)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def said(self, pattern: str) -> float | None:
        """Seconds after the start when it first said this."""
        return next((at for at, line in zip(self.times, list(self.lines)) if re.match(pattern, line)), None)

    def end(self, number: signal.Signals | None = None) -> int:
        """Its exit status, after this signal or by itself."""
        if number is not None:
            self._process.send_signal(number)
        status = self._process.wait()
        self._reader.join()
        return status


def saving(folder: Path) -> bool:
    return any((folder / "checkpoints").glob("*.orbax-checkpoint-tmp*"))


def wait_for(training: Training, condition) -> None:
    while training.running and not condition():
        time.sleep(0.002)


def kill(folder: Path, config: dict[str, Any], phase: str, number: signal.Signals, rng: random.Random) -> dict:
    """Starts a run, kills it in this phase, and says where it was."""
    training = Training(folder, config, FOREVER)
    if phase == "compilation":
        wait_for(training, lambda: training.said("training in|continuing"))
    elif phase != "start-up":
        lines = rng.randrange(5, 13)  # of 5 steps each: it has validated, drawn and saved before
        wait_for(training, lambda: sum(line.startswith("step ") for line in list(training.lines)) >= lines)
    if phase == "evaluation":
        wait_for(training, lambda: re.match(r"step \d*[13579]5/", training.lines[-1]))  # the last before one
    if phase == "save":
        wait_for(training, lambda: saving(folder))
    time.sleep(rng.uniform(0, USUAL[phase]))
    alive, status = training.running, training.end(number)
    steps = [line.split("  ")[0] for line in training.lines if line.startswith("step ")]
    begun = [line.split("from ")[1].split(":")[0] for line in training.lines if line.startswith("continuing")]
    return {
        "phase": phase,
        "signal": number.name,
        "seconds": round(time.monotonic() - training.began, 1),
        "was_running": alive,
        "exit_status": status,
        "continued_from": begun[0] if begun else "",
        "said_last": (steps or [line.replace(str(folder), "DIR")[:80] for line in training.lines] or [""])[-1],
        "left_half_saved": saving(folder),
        "warnings": [line[:200] for line in training.lines if "cannot be read" in line or "Error" in line],
    }


def state_of(folder: Path, step: int) -> dict[str, np.ndarray]:
    """Every array of a checkpoint, by its name."""
    arrays = {}
    for item in ("model", "training"):
        tree = ocp.StandardCheckpointer().restore((folder / "checkpoints" / str(step) / item).absolute())
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            arrays[item + jax.tree_util.keystr(path)] = np.asarray(leaf)
    return arrays


def differences(folder: Path, whole: Path, step: int) -> list[str]:
    """What differs between two runs: arrays of the last checkpoint, its counters, lines of metrics, the best step."""
    found = []
    mine, other = state_of(folder, step), state_of(whole, step)
    if mine.keys() != other.keys():
        found.append(f"arrays {sorted(mine.keys() ^ other.keys())}")
    found += [name for name in mine.keys() & other.keys() if mine[name].tobytes() != other[name].tobytes()]
    files = [f / "checkpoints" / str(step) / "progress" / "metadata" for f in (folder, whole)]
    progress = [json.loads(file.read_text()) for file in files]
    found += [f"progress {key}" for key in progress[0] if key != "seconds" and progress[0][key] != progress[1][key]]
    lines = [[{k: v for k, v in line.items() if k not in TIMED} for line in read_metrics(f)] for f in (folder, whole)]
    if lines[0] != lines[1]:
        found.append(f"metrics: {len(lines[0])} lines and {len(lines[1])}")
    pictures = [sorted((p.name, p.read_bytes()) for p in (f / "samples").glob("*.png")) for f in (folder, whole)]
    if pictures[0] != pictures[1]:
        found.append("samples")
    return found


def soak(name: str, folder: Path, kills: int, rng: random.Random, say) -> dict[str, Any]:
    """Trains one model with kills and without; the record of it."""
    config, cut, whole = MODELS[name], folder / "killed", folder / "whole"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    say(f"{name}")
    records = []
    for index in range(kills):
        number = signal.SIGTERM if index % 4 == 3 else signal.SIGKILL
        phase = PHASES[index % len(PHASES)]
        records.append(kill(cut, config, phase, number, rng))
        say(f"  kill {index + 1}: " + ", ".join(f"{k} {v}" for k, v in records[-1].items() if v not in ("", [])))
    reached = max((line["step"] for line in read_metrics(cut)), default=0)
    steps = (reached // CYCLE + 1) * CYCLE
    for place in (cut, whole):
        began = time.monotonic()
        training = Training(place, config, steps)
        if training.end():
            raise SystemExit("\n".join(training.lines))
        say(f"  {place.name}: to step {steps} in {time.monotonic() - began:.0f} s; {training.lines[-1].split(':')[0]}")
    found = differences(cut, whole, steps)
    count = state_of(whole, steps)
    say(f"  {len(count)} arrays, {len(read_metrics(whole))} lines: {'the same to the bit' if not found else found}")
    return {
        "steps": steps,
        "config": {**COMMON, **config},
        "kills": records,
        "arrays_compared": len(count),
        "values_compared": int(sum(array.size for array in count.values())),
        "lines_compared": len(read_metrics(whole)),
        "differences": found,
        "identical": not found,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "soak")
    arguments = parser.parse_args()
    rng, began, log = random.Random(arguments.seed), time.monotonic(), []

    def say(text: str) -> None:
        log.append(text)
        print(text, flush=True)

    shares = [arguments.kills - arguments.kills // 2, arguments.kills // 2]
    places = [arguments.folder / name.split(",")[0] for name in MODELS]
    runs = {n: soak(n, place, share, rng, say) for n, place, share in zip(MODELS, places, shares, strict=True)}
    identical = all(run["identical"] for run in runs.values())
    minutes = round((time.monotonic() - began) / 60, 1)
    say(f"{arguments.kills} kills in {minutes} minutes: {'all the same' if identical else 'DIFFERENT'}")
    result = {
        "kind": "soak",
        "command": f"python -m scripts.soak DIR --kills={arguments.kills} --seed={arguments.seed}",
        "identical": identical,
        "kills": arguments.kills,
        "minutes": minutes,
        "runs": runs,
        **machine(),
        "xla_flags": XLA_FLAGS,
        "date": datetime.date.today().isoformat(),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "results.json").write_text(json.dumps(result, indent=1) + "\n")
    (arguments.out / "log.txt").write_text("\n".join(log) + "\n")
    return 0 if identical else 1


if __name__ == "__main__":
    sys.exit(main())
