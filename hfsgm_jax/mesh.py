"""Devices: the ("data",) mesh, the two shardings in use, placing arrays, the compilation cache.

Everything runs under ``jax.jit`` with explicit shardings over a mesh, which is what ``jax.pmap``
became (in maintenance mode since JAX 0.8). Only the batch is split, and only along its rows:
aggregation over a set stays on one device. The mesh is that of all processes (`processes`).
"""

import contextlib
import hashlib
import os
import platform
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from hfsgm_jax.config import ConfigError
from hfsgm_jax.memory import keep_freed_memory


def make_mesh(num_devices: int = 0) -> Mesh:
    """A ``("data",)`` mesh over the first ``num_devices`` devices of all processes (0: all of them).

    Raises:
      ConfigError: there are fewer devices, or some of several processes would have none.
    """
    devices = jax.devices()
    if jax.process_count() > 1 and num_devices not in (0, len(devices)):
        raise ConfigError(
            f"train.devices is {num_devices}, but {jax.process_count()} processes with {len(devices)} devices use all "
            "of them: set it to 0, or start other processes"
        )
    if num_devices > len(devices):
        raise ConfigError(f"train.devices is {num_devices}, but JAX sees {len(devices)}: {devices}")
    count = num_devices or len(devices)
    return jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=devices[:count])


def use_cpu_cores(rows: int = 0, devices: int = 0) -> None:
    """Without an accelerator: ``devices``, or (0) one device per core, as far as they divide ``rows`` (0: all cores).

    XLA runs most convolutions of a CPU device on one core, so that large maps ask for one device per core; small ones
    (patches of 4x4 pixels) are faster on one device, whose operations share the cores without waiting for others.
    Does nothing where the number of CPU devices was chosen (``JAX_NUM_CPU_DEVICES``, or the flag it replaces) or JAX
    has already started, nor with several processes, which may share the cores.
    """
    keep_freed_memory()
    if jax.distributed.is_initialized():
        return
    if jax.config.jax_num_cpu_devices > 0 or "host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(RuntimeError):
        per_core = max(n for n in range(1, cores + 1) if rows % n == 0)
        jax.config.update("jax_num_cpu_devices", devices or per_core)


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device: states, the data table."""
    return NamedSharding(mesh, PartitionSpec())


def by_rows(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Rows (sets) spread over the devices; ``axis`` is where they are."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))


def place(tree: Any, sharding: NamedSharding) -> Any:
    """Arrays that are the same in every process, on the mesh; keys too. A process copies its devices' parts."""

    def put(x):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(x)), impl=jax.random.key_impl(x))
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(put, tree)


def local(tree: Any) -> Any:
    """Replicated arrays as arrays of this process's first device, for work that the other processes do not share."""
    return jax.tree.map(lambda x: x.addressable_data(0), tree)


def check_rows(mesh: Mesh, sets_per_batch: int, accumulate: int) -> None:
    """Raises a ConfigError unless every device gets the same rows of every part of the batch."""
    if sets_per_batch % (mesh.size * accumulate):
        raise ConfigError(
            f"data.sets_per_batch ({sets_per_batch}) must be a multiple of devices x optimizer.accumulate "
            f"({mesh.size} x {accumulate} = {mesh.size * accumulate}); train.devices limits the devices used"
        )


def use_compilation_cache() -> None:
    """Keeps compiled programs between runs, unless the user chose a folder (or none) already."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ or jax.config.jax_compilation_cache_dir is not None:
        return
    # One folder per kind of processor: homes are shared between machines, native code is not.
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next(line for line in lines if line.lower().startswith(("flags", "features")))
    except (OSError, StopIteration):
        features = platform.processor()
    kind = hashlib.sha256(f"{platform.machine()} {features}".encode()).hexdigest()[:12]
    jax.config.update("jax_compilation_cache_dir", str(Path.home() / ".cache" / "hfsgm_jax" / "xla" / kind))
