"""Times the training step of a config, data pipeline included, as train.py runs it.

    python benchmarks/train_step.py --config=configs/NAME.py [--config.SECTION.KEY=VALUE ...] [--steps=50] [--out=FILE]

Writes one JSON object: seconds to compile (nothing is taken from the compilation cache), images per second (the
median over dispatches and their quartiles), peak memory, and what it ran on. Nothing else should run meanwhile.
"""

import functools
import resource
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags
from ml_collections import ConfigDict, config_flags

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # configs and hfsgm_jax, from a clone that is not installed

from hfsgm_jax import data  # noqa: E402
from hfsgm_jax import mesh as mesh_lib  # noqa: E402
from hfsgm_jax.config import check_config  # noqa: E402
from hfsgm_jax.models import build_model  # noqa: E402
from hfsgm_jax.training.optimizer import make_optimizer  # noqa: E402
from hfsgm_jax.training.prepare import resolve  # noqa: E402
from hfsgm_jax.training.state import create_state, init_function  # noqa: E402
from hfsgm_jax.training.step import make_train_step, summarize, to_sets, zero_metrics  # noqa: E402
from scripts.benchmark import publish  # noqa: E402

_CONFIG = config_flags.DEFINE_config_file("config", None, "file of the configuration")
_STEPS = flags.DEFINE_integer("steps", 50, "optimizer steps that are timed, after one dispatch that is not", 1)
_OUT = flags.DEFINE_string("out", None, "JSON file; default: standard output only")
flags.mark_flag_as_required("config")


def measure(config: ConfigDict, steps: int) -> dict[str, Any]:
    """Compiles and times the step of ``config``: seconds, images per second, GiB."""
    check_config(config)
    start = time.monotonic()
    dataset = data.load_dataset(config.data, "train")
    data_seconds = time.monotonic() - start

    config = resolve(config, dataset)
    mesh_lib.use_cpu_cores(config.data.sets_per_batch // config.optimizer.accumulate)
    mesh = mesh_lib.make_mesh(config.train.devices)
    mesh_lib.check_rows(mesh, config.data.sets_per_batch, config.optimizer.accumulate)
    whole = mesh_lib.replicated(mesh)
    model = build_model(config.model, config.image_shape)
    optimizer = make_optimizer(config.optimizer, config.train.steps)
    sample = functools.partial(data.sample_sets, spec=data.SetSpec.from_config(config.data))
    table = jax.device_put(dataset.on_device(), whole)
    root = jax.device_put(jax.random.key(config.seed), whole)
    example = jax.eval_shape(lambda table, key: to_sets(sample(table, key)), table, root)
    state = create_state(init_function(model, optimizer, config.optimizer.ema, example), root, whole)
    metrics = jax.device_put(zero_metrics(), whole)

    start = time.monotonic()
    step = make_train_step(model, config, optimizer, sample, mesh).lower(state, metrics, table, root)
    trace_seconds = time.monotonic() - start
    step = step.compile()
    compile_seconds = time.monotonic() - start

    rates = []
    dispatches = max(1, round(steps / config.train.steps_per_dispatch))
    for _ in range(1 + dispatches):
        images, start = int(metrics["images"]), time.monotonic()
        state, metrics, reached = step(state, metrics, table, root)
        reached.block_until_ready()
        rates.append((int(metrics["images"]) - images) / (time.monotonic() - start))
    low, median, high = np.percentile(rates[1:], [25, 50, 75])
    return {
        "images_per_second": float(median),
        "images_per_second_quartiles": [float(low), float(high)],
        "timed_steps": dispatches * config.train.steps_per_dispatch,
        "compile_seconds": compile_seconds,
        "trace_seconds": trace_seconds,
        "data_seconds": data_seconds,
        "parameters": sum(x.size for x in jax.tree.leaves(state.params)),
        "train_nelbo_after": summarize(jax.device_get(metrics)).get("train/nelbo"),
        **_memory(mesh.devices.flat[0]),
        "sets_per_batch": config.data.sets_per_batch,
        "set_size": config.data.set_size,
        "steps_per_dispatch": config.train.steps_per_dispatch,
        "dtype": config.model.dtype,
        "devices": mesh.size,
    }


def _memory(device: jax.Device) -> dict[str, float]:
    """Peak resident memory of this process and, where it is known, peak memory of a device; GiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB elsewhere
    peak = {"peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30}
    stats = device.memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        peak["peak_device_memory_gib"] = stats["peak_bytes_in_use"] / 2**30
    return peak


def main(argv: list[str]) -> None:
    del argv
    publish(lambda: measure(_CONFIG.value, _STEPS.value), _OUT.value)


if __name__ == "__main__":
    app.run(main)
