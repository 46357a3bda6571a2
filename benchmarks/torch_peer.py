"""Times the training step of a SCHA-VAE against the same model in PyTorch, which needs the extra `torch`.

    python -m benchmarks.torch_peer --config=configs/cpu_omniglot_scha_vae_lag.py [--config.SECTION.KEY=VALUE ...]
        [--variants=ours,eager,...] [--cores=2] [--rounds=10] [--steps=3] [--out=FILE]

A step draws a batch (sets, and their pixels anew), goes forward and backward, clips, updates Adam and averages the
parameters, as the config says. Every variant has a process of its own; they take turns, one waiting while another
runs, so that all meet the same machine. Written are images per second (median and quartiles over rounds), the seconds
of all cores that an image costs, and the seconds until two steps are done. On a GPU float32 products are TF32 on both
sides; `--config.model.dtype=bfloat16` compares bfloat16 (autocast). Nothing else should run meanwhile.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes share a GPU

import jax  # noqa: E402
import numpy as np  # noqa: E402
from absl import app, flags  # noqa: E402
from ml_collections import ConfigDict, config_flags  # noqa: E402

from benchmarks.common import build_step  # noqa: E402
from hfsgm_jax import data  # noqa: E402
from hfsgm_jax.config import check_config  # noqa: E402
from hfsgm_jax.training.prepare import resolve  # noqa: E402
from scripts.benchmark import publish  # noqa: E402

VARIANTS = ("ours", "eager", "channels_last", "compile", "compile_channels_last")
GPU_VARIANTS = (*VARIANTS, "compile_cudagraphs")

_CONFIG = config_flags.DEFINE_config_file("config", None, "file of the configuration")
_VARIANTS = flags.DEFINE_list("variants", None, "what is timed; default: all that this device has")
_CORES = flags.DEFINE_integer("cores", 0, "CPU cores of every variant: our devices, PyTorch's threads (0: all)", 0)
_ROUNDS = flags.DEFINE_integer("rounds", 10, "turns of every variant", 2)
_STEPS = flags.DEFINE_integer("steps", 3, "optimizer steps per turn", 1)
_OUT = flags.DEFINE_string("out", None, "JSON file; default: standard output only")
_WORKER = flags.DEFINE_string("worker", None, "the variant of this process, which another one started")
flags.mark_flag_as_required("config")


def our_step(config: ConfigDict) -> Callable[[], None]:
    """One optimizer step of ours, as train.py compiles it."""
    jax.config.update("jax_enable_compilation_cache", False)
    step = build_step(config)
    return lambda: step().block_until_ready()


def torch_step(config: ConfigDict, variant: str, cores: int) -> Callable[[], None]:
    """One optimizer step of the peer."""
    import torch

    from benchmarks.torch_training import make_step

    torch.set_num_threads(cores)
    dataset = data.load_dataset(config.data, "train")
    return make_step(resolve(config, dataset), dataset.images, dataset.size, variant)


def work(config: ConfigDict, variant: str, cores: int, steps: int) -> None:
    """A worker: a line when it is ready, then seconds and CPU seconds of a turn for every line it reads."""
    start = time.monotonic()
    step = our_step(config) if variant == "ours" else torch_step(config, variant, cores)
    step()
    step()
    print(json.dumps([time.monotonic() - start]), flush=True)
    for _ in sys.stdin:
        start, cpu = time.monotonic(), time.process_time()
        for _ in range(steps):
            step()
        print(json.dumps([time.monotonic() - start, time.process_time() - cpu]), flush=True)


class Worker:
    """The process of one variant, on the first ``cores`` cores."""

    def __init__(self, variant: str, cores: int):
        command = [sys.executable, "-m", "benchmarks.torch_peer", *sys.argv[1:], f"--worker={variant}"]
        limit = (lambda: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])) if cores else None
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.variant = variant
        self.process = subprocess.Popen(command, cwd=ROOT, preexec_fn=limit, **pipes)
        (self.seconds_to_start,) = self.read()

    def read(self) -> list[float]:
        """The next line of numbers.

        Raises:
          RuntimeError: the worker ended.
        """
        for line in self.process.stdout:
            if line.startswith("["):
                return json.loads(line)
        raise RuntimeError(f"the process of {self.variant} ended with {self.process.wait()}; its message is above")

    def turn(self) -> list[float]:
        """Seconds and CPU seconds of one turn."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.read()

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def measure(config: ConfigDict, variants: list[str], cores: int, rounds: int, steps: int) -> dict[str, Any]:
    """Images per second of every variant, and the ratio of ours to the best of PyTorch's."""
    workers: list[Worker] = []
    try:
        for variant in variants:
            workers.append(Worker(variant, cores))
            print(f"{variant}: ready after {workers[-1].seconds_to_start:.0f} s", file=sys.stderr)
        turns = np.array([[worker.turn() for worker in workers] for _ in range(rounds)])
    finally:
        for worker in workers:
            worker.stop()
    images = steps * config.data.sets_per_batch * config.data.set_size
    rates = np.percentile(images / turns[..., 0], [25, 50, 75], axis=0).T
    cpu = np.median(turns[..., 1], axis=0) / images
    results = {
        worker.variant: {
            "images_per_second": float(median),
            "images_per_second_quartiles": [float(low), float(high)],
            "cpu_seconds_per_image": float(seconds),
            "seconds_to_start": worker.seconds_to_start,
        }
        for worker, (low, median, high), seconds in zip(workers, rates, cpu)
    }
    peers = {name: result["images_per_second"] for name, result in results.items() if name != "ours"}
    best = max(peers, key=peers.get) if peers else None
    ratio = results["ours"]["images_per_second"] / peers[best] if best and "ours" in results else None
    import torch

    return {
        "variants": results,
        "best_torch": best,
        "ours_over_best_torch": ratio,
        "cores_per_variant": cores,
        "rounds": rounds,
        "steps_per_round": steps,
        "sets_per_batch": config.data.sets_per_batch,
        "set_size": config.data.set_size,
        "dtype": config.model.dtype,
        "torch": torch.__version__,
    }


def main(argv: list[str]) -> None:
    del argv
    import torch

    from benchmarks.torch_training import check

    config = _CONFIG.value
    check_config(config)
    check(config)
    available = len(os.sched_getaffinity(0))
    cores = min(_CORES.value or available, available)
    if _WORKER.value:
        return work(config, _WORKER.value, cores, _STEPS.value)
    known = GPU_VARIANTS if torch.cuda.is_available() else VARIANTS
    variants = _VARIANTS.value or list(known)
    if wrong := [v for v in variants if v not in known]:
        raise app.UsageError(f"--variants={','.join(wrong)}: this device has {', '.join(known)}")
    publish(lambda: measure(config, variants, cores, _ROUNDS.value, _STEPS.value), _OUT.value, "torch_peer")


if __name__ == "__main__":
    app.run(main)
