"""Times the training step of a config, data pipeline included, as train.py runs it.

    python -m benchmarks.train_step --config=configs/NAME.py [--config.SECTION.KEY=VALUE ...]
        [--devices=N] [--steps=50] [--seconds=60] [--out=FILE]

`python -m benchmarks.matrix` runs it over configs, batch sizes, dtypes and numbers of devices.

Writes one JSON object: images per second (the median over dispatches and their quartiles), the model's FLOP/s and
their share of a matrix product's on the same devices, peak memory, seconds to compile (nothing is taken from the
compilation cache), and what it ran on. Nothing else should run meanwhile.
"""

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import common  # noqa: E402
from hfsgm_jax.training.step import summarize  # noqa: E402


def measure(config: ConfigDict, steps: int = 50, seconds: float = 60.0) -> dict[str, Any]:
    """Compiles and times the step of ``config``.

    Args:
      steps: timed, about as many.
      seconds: timed steps end after about this time, once there are 3 dispatches.

    Returns:
      Rates, seconds, GiB, and the sizes that they depend on. ``model_flops_per_second`` are those of
      `common.step_flops` in the median time, ``matmul_flops_per_second`` those of `common.matmul_peak`.
    """
    step = common.build_step(config)
    per_dispatch = step.config.train.steps_per_dispatch
    times, images_per_step = time_step(step, steps, seconds)
    memory = common.memory(step.mesh.devices.flat[0])  # before the matrices
    return {
        **common.rates(images_per_step, times, "images_per_second"),
        "seconds_per_step": float(np.median(times)),
        "timed_steps": int(step.state.step) - 2 * per_dispatch,
        **_share(step, float(np.median(times))),
        "compile_seconds": step.compile_seconds,
        "trace_seconds": step.trace_seconds,
        "data_seconds": step.data_seconds,
        **memory,
        "program_memory_gib": step.program_bytes / common.GIB,
        "parameters": common.num_parameters(step.state.params),
        "train_nelbo_after": summarize(jax.device_get(step.metrics)).get("train/nelbo"),
        "sets_per_batch": config.data.sets_per_batch,
        "set_size": config.data.set_size,
        "images_per_step": images_per_step,
        "steps_per_dispatch": per_dispatch,
        "dtype": config.model.dtype,
        "devices": step.mesh.size,
    }


def time_step(step: common.TrainStep, steps: int, seconds: float) -> tuple[np.ndarray, float]:
    """``[blocks]`` seconds per step, and target images per step (their mean, where sets differ in size)."""
    per_dispatch = step.config.train.steps_per_dispatch
    times = common.seconds_per_call(step, max(1, steps // per_dispatch), seconds) / per_dispatch
    return times, step.images / int(step.state.step)


def _share(step: common.TrainStep, seconds: float) -> dict[str, float]:
    """The model's FLOP/s, and the share of what the devices do in matrix products."""
    if not step.flops:
        return {}
    peak = common.matmul_peak(step.mesh, step.config.model.dtype)
    rate = step.flops / seconds
    return {
        "model_flops_per_step": step.flops,
        "model_flops_per_second": rate,
        "matmul_flops_per_second": peak,
        "share_of_peak": rate / peak,
    }


if __name__ == "__main__":
    common.main(
        "train_step",
        measure,
        steps=(50, "optimizer steps that are timed, after two dispatches that are not"),
        seconds=(60.0, "no new dispatch is timed after so many seconds, once there are three"),
    )
