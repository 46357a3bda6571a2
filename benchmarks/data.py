"""Times the data alone, and compares with what the training step of the same config consumes.

    python -m benchmarks.data --config=configs/NAME.py [--config.SECTION.KEY=VALUE ...]
        [--devices=N] [--steps=200] [--train_steps=20] [--seconds=30] [--out=FILE]

Three rates in sets per second: of sets drawn on the device from data that lie there (`data.sample_sets`,
augmentation and binarisation included), of sets read from disk (`data.stream`, where the source can be streamed,
transfer to the device included), and of the training step, whose data lie on the device. A ratio above 1 says that
the data are faster than the step: drawing on the device takes 1 / ratio of the step's time, which it is part of;
reading goes on beside the step, and holds it up only below 1 (on a CPU both share the cores, so that the two ratios
do not tell all there). Nothing else should run meanwhile.
"""

import contextlib
import itertools
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import common  # noqa: E402
from benchmarks.train_step import time_step  # noqa: E402
from hfsgm_jax import data  # noqa: E402
from hfsgm_jax import mesh as mesh_lib  # noqa: E402
from hfsgm_jax.data.sources import SOURCES  # noqa: E402
from hfsgm_jax.training.feed import Feed, make_feed  # noqa: E402


def measure(config: ConfigDict, steps: int = 200, train_steps: int = 20, seconds: float = 30.0) -> dict[str, Any]:
    """Times the batches of ``config`` and its training step; streamed ones only where the source offers them.

    Args:
      steps, train_steps: batches and training steps that are timed, about as many.
      seconds: each of the three timings ends after about this time, once there are 3 batches or steps.
    """
    config = config.copy_and_resolve_references()
    config.data.stream = False
    step = common.build_step(config)
    config = step.config  # resolved
    sets = config.data.sets_per_batch
    step_times, _ = time_step(step, train_steps, seconds)
    mesh, key = step.mesh, step.root
    del step
    dataset = data.load_dataset(config.data, "train")
    times = batch_times(make_feed(dataset, config, mesh), mesh, key, steps, seconds)
    result = common.rates(sets, times, "device_sets_per_second")
    if SOURCES[config.data.source].open is not None:
        config.data.stream = True
        dataset = data.load_dataset(config.data, "train")
        times = streamed_times(dataset, config, mesh, key, steps, seconds)
        result |= common.rates(sets, times, "streamed_sets_per_second")
    result |= common.rates(sets, step_times, "step_sets_per_second")
    consumed = result["step_sets_per_second"]
    ratios = {
        f"{name}_ratio": result[f"{name}_sets_per_second"] / consumed
        for name in ("device", "streamed")
        if f"{name}_sets_per_second" in result
    }
    return {
        **result,
        **ratios,
        "source": config.data.source,
        "resize": config.data.resize,
        "sets_per_batch": sets,
        "set_size": config.data.set_size,
        "dtype": config.model.dtype,
        "devices": mesh.size,
    }


def batch_times(feed: Feed, mesh: Any, key: jax.Array, steps: int, seconds: float) -> np.ndarray:
    """``[blocks]`` seconds per batch of `feed`, made on the devices as the step makes it."""
    rows = mesh_lib.by_rows(mesh)
    make = jax.jit(lambda sets, key: jax.lax.with_sharding_constraint(feed.sample(sets, key), rows))
    numbers = itertools.count()
    with contextlib.closing(feed.start(0)) as arguments:

        def batch() -> Any:
            return make(next(arguments), jax.random.fold_in(key, next(numbers)))

        return common.seconds_per_call(batch, steps, seconds)


def streamed_times(
    dataset: Any, config: ConfigDict, mesh: Any, key: jax.Array, steps: int, seconds: float
) -> np.ndarray:
    """``[blocks]`` seconds per batch read from disk; ``dataset`` holds `data.StreamedImages`."""
    config = config.copy_and_resolve_references()
    config.data.stream, config.train.steps_per_dispatch = True, 1
    config.train.steps = 10**6  # reading does not end before the timing
    return batch_times(make_feed(dataset, config, mesh), mesh, key, steps, seconds)


if __name__ == "__main__":
    common.main(
        "data",
        measure,
        steps=(200, "batches that are timed, after two that are not"),
        train_steps=(20, "training steps that are timed"),
        seconds=(30.0, "each of the three timings ends after about this time"),
    )
