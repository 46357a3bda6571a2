"""Timing of calls, memory, and the speed that a machine's matrix products reach."""

import math
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from hfsgm_jax import devices

BLOCK = 0.05  # seconds; calls that take less are timed several at once
GIB = 2**30


def seconds_per_call(call: Callable[[], Any], calls: int, seconds: float, at_least: int = 3) -> np.ndarray:
    """Times ``call``, whose result is waited for, after two calls that are not timed.

    Short calls are timed in blocks, with two under way at any time, as in the training loop.

    Args:
      calls: timed calls, at most about as many.
      seconds: after which no new block begins, once there are ``at_least`` of them.

    Returns:
      ``[blocks]`` seconds per call.
    """
    jax.block_until_ready(call())
    start = time.monotonic()
    jax.block_until_ready(call())
    length = math.ceil(BLOCK / max(time.monotonic() - start, 1e-6))
    length = max(1, min(length, calls // at_least))
    begin, times = time.monotonic(), []
    while len(times) < at_least or (len(times) * length < calls and time.monotonic() - begin < seconds):
        start, previous = time.monotonic(), None
        for _ in range(length):
            result = call()
            jax.block_until_ready(previous)
            previous = result
        jax.block_until_ready(previous)
        times.append((time.monotonic() - start) / length)
    return np.array(times)


def rates(units: float, times: np.ndarray, name: str) -> dict[str, Any]:
    """``{name: median, name_quartiles: [25 %, 75 %]}`` of ``units`` per second."""
    low, median, high = np.percentile(units / times, [25, 50, 75])
    return {name: float(median), f"{name}_quartiles": [float(low), float(high)]}


def peak_memory() -> dict[str, float]:
    """Peak resident memory of this process (compilation included) and, where known, of the first device; GiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB elsewhere
    peak = {"peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB}
    used = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return peak if used is None else peak | {"peak_device_memory_gib": used / GIB}


def program_memory(compiled: Any) -> float:
    """GiB that a compiled program needs on a device, by its plan; shared arguments and results count once."""
    plan = compiled.memory_analysis()
    size = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes + plan.temp_size_in_bytes
    return size / GIB


def matmul_peak(mesh: Mesh, dtype: str) -> float:
    """FLOP/s of dense square matrix products on all devices of the mesh together: the best of some.

    The reference of a step's share of the peak: the same devices, dtype and default precision (on recent NVIDIA GPUs
    float32 products are TensorFloat-32), hence no table of data sheets, in which CPUs lack.
    """
    side = 1024 if jax.default_backend() == "cpu" else 8192
    x = jax.random.normal(jax.random.key(0), (mesh.size, side, side)).astype(dtype) / side**0.5  # keeps its scale
    x = jax.device_put(x, devices.by_rows(mesh))
    y, multiply = x, jax.jit(jnp.matmul)

    def call() -> jax.Array:
        nonlocal y
        y = multiply(x, y)
        return y

    return 2 * mesh.size * side**3 / float(seconds_per_call(call, 100, 2.0).min())
