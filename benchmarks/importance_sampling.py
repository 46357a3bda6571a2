"""Times the importance-weighted bound of a config (joint, spec of `evaluate.py --tasks=likelihood`), random weights.

    python -m benchmarks.importance_sampling --config=configs/NAME.py [--config.SECTION.KEY=VALUE ...]
        [--devices=N] [--sets=16] [--set_size=5] [--samples=10] [--repeat=3] [--reencode] [--out=FILE]

A sample-image is one importance sample of one image. Writes one JSON object: sample-images per second (the median
over repetitions, and all of them), seconds to compile (nothing is taken from the compilation cache), peak memory,
and what it ran on. With --reencode the images are encoded once per chunk of samples (`eval.chunk`; 1: per sample)
instead of once, for comparison. Nothing else should run meanwhile.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import common  # noqa: E402
from hfsgm_jax import mesh, objectives  # noqa: E402
from hfsgm_jax.config import check_config  # noqa: E402
from hfsgm_jax.evaluation import Evaluation  # noqa: E402
from hfsgm_jax.evaluation.context import as_batch  # noqa: E402
from hfsgm_jax.trace import Plan, Sets  # noqa: E402


def bound(apply: Any, encode: Any, row: Sets, key: jax.Array, *, samples: int, chunk: int, reencode: bool) -> dict:
    """The joint bound of one set; see `Evaluation.each`."""
    sets = as_batch(row)
    if not reencode:
        features = encode(sets)
        return {"bound": objectives.joint_bounds(apply, sets, key, (samples,), features=features, chunk=chunk)[0, 0]}

    def weight(key):
        # Exactly 1, but not for the compiler: images that depend on the sample cannot be encoded once for all.
        one = 1 + 1e-12 * jax.random.uniform(key)
        images = sets.images * one
        return objectives.log_weight(apply(sets.replace(images=images), Plan(), key), sets)

    return {"bound": objectives.importance_bound(weight, key, samples, chunk)[0]}


def measure(
    config: ConfigDict,
    sets: int = 16,
    set_size: int = 5,
    samples: int = 10,
    repeat: int = 3,
    reencode: bool = False,
) -> dict[str, Any]:
    """Compiles and times the bound of random sets under random weights."""
    check_config(config)
    mesh.use_cpu_cores()
    images = common.random_sets(config, sets, set_size)
    model, variables = common.random_model(config)
    static = dict(samples=samples, chunk=config.eval.chunk, reencode=reencode)
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        evaluation = Evaluation(Path(folder), config, model, variables, 0)
        for _ in range(1 + repeat):
            start = time.monotonic()
            bounds = evaluation.each("importance sampling", bound, images, **static)["bound"]
            seconds.append(time.monotonic() - start)
            evaluation.journal.forget()
    if not np.isfinite(bounds).all():
        raise FloatingPointError("the bound is not finite: its time would mean nothing")
    rates = sets * set_size * samples / np.array(seconds[1:])
    return {
        "sample_images_per_second": float(np.median(rates)),
        "all_rates": rates.tolist(),
        "compile_seconds": seconds[0] - float(np.median(seconds[1:])),
        **common.memory(jax.devices()[0]),
        "parameters": common.num_parameters(variables["params"]),
        "sets": sets,
        "set_size": set_size,
        "samples": samples,
        "chunk": config.eval.chunk,
        "sets_per_batch": config.eval.sets_per_batch,
        "reencode": reencode,
        "dtype": config.model.dtype,
        "devices": config.train.devices or len(jax.devices()),
    }


if __name__ == "__main__":
    common.main(
        "importance_sampling",
        measure,
        sets=(16, "sets, of random images"),
        set_size=(5, "images per set"),
        samples=(10, "K, importance samples"),
        repeat=(3, "timed repetitions, after one that compiles"),
        reencode=(False, "encode the images again and again, for comparison"),
    )
