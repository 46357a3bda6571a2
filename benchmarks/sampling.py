"""Times conditional sampling of a config: new images per second, random weights and contexts.

    python -m benchmarks.sampling --config=configs/NAME.py [--config.SECTION.KEY=VALUE ...]
        [--devices=N] [--sets=4] [--set_size=5] [--num=16] [--repeat=10] [--seconds=60] [--out=FILE]

What is timed is `sampling.conditional` with draws from p(x | latents), as `evaluate.py --tasks=sample` calls it: the
images of a context are encoded once, and pixels that follow one another (a PixelCNN decoder, or
--config.model.pixelcnn_layers=2 on another model) are drawn in one compiled loop that keeps what it computed of the
pixels before. A model without latents that a set shares (the VAE) samples unconditionally. Nothing else should run
meanwhile.
"""

import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import common  # noqa: E402
from hfsgm_jax import data, sampling  # noqa: E402
from hfsgm_jax import mesh as mesh_lib  # noqa: E402
from hfsgm_jax.config import check_config  # noqa: E402


def measure(
    config: ConfigDict, sets: int = 4, set_size: int = 5, num: int = 16, repeat: int = 10, seconds: float = 60.0
) -> dict[str, Any]:
    """Compiles and times the sampling of ``num`` new images of each of ``sets`` classes.

    Args:
      set_size: images of a context.
      repeat, seconds: timed calls, and the time after which they end, once there are 3.
    """
    check_config(config)
    mesh_lib.use_cpu_cores(sets)
    mesh = mesh_lib.make_mesh(config.train.devices)
    mesh_lib.check_rows(mesh, sets, 1)
    model, variables = common.random_model(config)
    conditional = any(node.plate != "image" for node in model.nodes)

    def draw(variables, contexts, key):
        apply, encode = sampling.bind(model, variables)
        if conditional:
            return sampling.conditional(apply, contexts, num, key, encode=encode, draw=True)
        return sampling.unconditional(apply, sets, num, data.image_shape(config.data), key, draw=True)

    whole, rows = mesh_lib.replicated(mesh), mesh_lib.by_rows(mesh)
    variables = jax.device_put(variables, whole)
    contexts = jax.device_put(common.random_sets(config, sets, set_size), rows)
    key = jax.device_put(jax.random.key(2), whole)

    start = time.monotonic()
    compiled = jax.jit(draw, out_shardings=rows).lower(variables, contexts, key).compile()
    compile_seconds = time.monotonic() - start
    if not np.isfinite(compiled(variables, contexts, key)).all():
        raise FloatingPointError("the images are not finite: their time would mean nothing")

    times = common.seconds_per_call(lambda: compiled(variables, contexts, key), repeat, seconds)
    return {
        **common.rates(sets * num, times, "images_per_second"),
        "milliseconds_per_image": 1e3 * float(np.median(times)) / (sets * num),
        "seconds_per_call": float(np.median(times)),
        "compile_seconds": compile_seconds,
        **common.memory(mesh.devices.flat[0]),
        "program_memory_gib": common.program_bytes(compiled) / common.GIB,
        "parameters": common.num_parameters(variables["params"]),
        "mode": "conditional" if conditional else "unconditional",
        "sets": sets,
        "set_size": set_size,
        "num": num,
        "dtype": config.model.dtype,
        "devices": mesh.size,
    }


if __name__ == "__main__":
    common.main(
        "sampling",
        measure,
        sets=(4, "classes, each with a context of random images"),
        set_size=(5, "images per context"),
        num=(16, "new images per class, all at once"),
        repeat=(10, "timed calls, after two that are not"),
        seconds=(60.0, "no new call is timed after so many seconds, once there are three"),
    )
