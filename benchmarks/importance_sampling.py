"""Times the importance-weighted bound of a config (joint, spec of `evaluate.py --tasks=likelihood`), random weights.

    python benchmarks/importance_sampling.py --config=configs/NAME.py [--config.SECTION.KEY=VALUE ...]
        [--sets=16] [--set_size=5] [--samples=10] [--repeat=3] [--reencode] [--out=FILE]

A sample-image is one importance sample of one image. Writes one JSON object: sample-images per second (the median
over repetitions, and all of them), seconds to compile (nothing is taken from the compilation cache), peak memory,
and what it ran on. With --reencode the images are encoded once per chunk of samples (`eval.chunk`; 1: per sample)
instead of once, for comparison. Nothing else should run meanwhile.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags
from ml_collections import ConfigDict, config_flags

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # configs and hfsgm_jax, from a clone that is not installed

from hfsgm_jax import mesh, objectives  # noqa: E402
from hfsgm_jax.config import check_config  # noqa: E402
from hfsgm_jax.data import image_shape  # noqa: E402
from hfsgm_jax.evaluation import Evaluation  # noqa: E402
from hfsgm_jax.evaluation.context import as_batch  # noqa: E402
from hfsgm_jax.models import build_model  # noqa: E402
from hfsgm_jax.trace import Plan, Sets  # noqa: E402
from scripts.benchmark import publish  # noqa: E402

_CONFIG = config_flags.DEFINE_config_file("config", None, "file of the configuration")
_SETS = flags.DEFINE_integer("sets", 16, "sets, of random images", 1)
_SET_SIZE = flags.DEFINE_integer("set_size", 5, "images per set", 1)
_SAMPLES = flags.DEFINE_integer("samples", 10, "K, importance samples", 1)
_REPEAT = flags.DEFINE_integer("repeat", 3, "timed repetitions, after one that compiles", 1)
_REENCODE = flags.DEFINE_bool("reencode", False, "encode the images again and again, for comparison")
_OUT = flags.DEFINE_string("out", None, "JSON file; default: standard output only")
flags.mark_flag_as_required("config")


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


def measure(config: ConfigDict, num_sets: int, set_size: int, samples: int, repeat: int, reencode: bool) -> dict:
    """Compiles and times the bound of random sets under random weights."""
    check_config(config)
    mesh.use_cpu_cores()
    shape = image_shape(config.data)
    model = build_model(config.model, shape)
    images = (np.random.default_rng(0).uniform(size=(num_sets, set_size, *shape)) < 0.1).astype(np.float32)
    sets = jax.tree.map(np.asarray, Sets.of(images))
    keys = {"params": jax.random.key(0), "sample": jax.random.key(1)}
    variables = jax.jit(lambda sets: model.init(keys, sets, Plan()))(jax.tree.map(lambda x: x[:1], sets))
    static = dict(samples=samples, chunk=config.eval.chunk, reencode=reencode)
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        evaluation = Evaluation(Path(folder), config, model, variables, 0)
        for _ in range(1 + repeat):
            start = time.monotonic()
            bounds = evaluation.each("importance sampling", bound, sets, **static)["bound"]
            seconds.append(time.monotonic() - start)
            evaluation.journal.forget()
    if not np.isfinite(bounds).all():
        raise FloatingPointError("the bound is not finite: its time would mean nothing")
    rates = num_sets * set_size * samples / np.array(seconds[1:])
    return {
        "sample_images_per_second": float(np.median(rates)),
        "all_rates": rates.tolist(),
        "compile_seconds": seconds[0] - float(np.median(seconds[1:])),
        "peak_memory_gib": _peak_memory(),
        "parameters": sum(x.size for x in jax.tree.leaves(variables["params"])),
        "sets": num_sets,
        "set_size": set_size,
        "samples": samples,
        "chunk": config.eval.chunk,
        "sets_per_batch": config.eval.sets_per_batch,
        "reencode": reencode,
        "dtype": config.model.dtype,
        "devices": config.train.devices or len(jax.devices()),
    }


def _peak_memory() -> float:
    """Of this process, or of the first device where that is known; GiB."""
    stats = jax.devices()[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB elsewhere
    return stats.get("peak_bytes_in_use", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit) / 2**30


def main(argv: list[str]) -> None:
    del argv
    arguments = (_SETS.value, _SET_SIZE.value, _SAMPLES.value, _REPEAT.value, _REENCODE.value)
    publish(lambda: measure(_CONFIG.value, *arguments), _OUT.value)


if __name__ == "__main__":
    app.run(main)
