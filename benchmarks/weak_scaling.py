"""Weak scaling: the training step with as many rows per device on 1, 2, 4, ... devices.

    python -m benchmarks.weak_scaling --config=configs/NAME.py [--config.SECTION.KEY=VALUE ...]
        [--devices=N] [--rows=4] [--steps=20] [--seconds=30] [--out=FILE]

Writes images per second of every number of devices, and their efficiency: the rate over that of one device, over
the number of devices. The devices of a CPU share its cores, and its memory: more of them than cores measure nothing,
and one device already uses other cores for some operations, so that even 2 devices on 2 cores show less than the
scaling of separate machines would. Nothing else should run meanwhile.
"""

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import common  # noqa: E402
from benchmarks.train_step import time_step  # noqa: E402
from hfsgm_jax import mesh as mesh_lib  # noqa: E402


def measure(config: ConfigDict, rows: int = 4, steps: int = 20, seconds: float = 30.0) -> dict[str, Any]:
    """Times the step on 1, 2, 4, ... devices and on all of ``train.devices``.

    Args:
      rows: sets per device.
      steps, seconds: timed for each number of devices; see `train_step.measure`.
    """
    mesh_lib.use_cpu_cores()
    most = config.train.devices or len(jax.devices())
    points = [_point(config, count, rows, steps, seconds) for count in counts(most)]
    for point in points:
        point["efficiency"] = point["images_per_second"] / (points[0]["images_per_second"] * point["devices"])
    return {"points": points, "rows_per_device": rows, "set_size": config.data.set_size, "dtype": config.model.dtype}


def counts(most: int) -> list[int]:
    """1, 2, 4, ... and ``most``."""
    return [*(2**n for n in range(most.bit_length()) if 2**n < most), most]


def _point(config: ConfigDict, devices: int, rows: int, steps: int, seconds: float) -> dict[str, Any]:
    config = config.copy_and_resolve_references()
    config.train.devices, config.data.sets_per_batch = devices, devices * rows
    step = common.build_step(config)
    times, images_per_step = time_step(step, steps, seconds)
    return {
        "devices": devices,
        "sets_per_batch": devices * rows,
        **common.rates(images_per_step, times, "images_per_second"),
        "seconds_per_step": float(np.median(times)),
        "compile_seconds": step.compile_seconds,
        "program_memory_gib": step.program_bytes / common.GIB,
    }


if __name__ == "__main__":
    common.main(
        "weak_scaling",
        measure,
        rows=(4, "sets per device"),
        steps=(20, "optimizer steps that are timed, for each number of devices"),
        seconds=(30.0, "no new dispatch is timed after so many seconds, once there are three"),
    )
