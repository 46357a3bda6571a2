"""Devices: the ("data",) mesh, the two shardings in use, the compilation cache.

Everything runs under ``jax.jit`` with explicit shardings over a mesh, which is what ``jax.pmap``
became (in maintenance mode since JAX 0.8). Only the batch is split, and only along its rows:
aggregation over a set stays on one device.
"""

import contextlib
import hashlib
import os
import platform
from pathlib import Path

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from hfsgm_jax.config import ConfigError


def make_mesh(num_devices: int = 0) -> Mesh:
    """A ``("data",)`` mesh over the first ``num_devices`` devices (0: all of them).

    Raises:
      ConfigError: there are fewer devices.
    """
    devices = jax.devices()
    if num_devices > len(devices):
        raise ConfigError(f"train.devices is {num_devices}, but JAX sees {len(devices)}: {devices}")
    count = num_devices or len(devices)
    return jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=devices[:count])


def use_cpu_cores(rows: int = 0) -> None:
    """Without an accelerator: one device per core, as far as they divide ``rows`` (0: all cores).

    XLA runs the convolutions of a CPU device on one core. Does nothing where the number of CPU
    devices was chosen (``JAX_NUM_CPU_DEVICES``, or the flag it replaces) or JAX has already started.
    """
    if jax.config.jax_num_cpu_devices > 0 or "host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", max(n for n in range(1, cores + 1) if rows % n == 0))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device: states, the data table."""
    return NamedSharding(mesh, PartitionSpec())


def by_rows(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Rows (sets) spread over the devices; ``axis`` is where they are."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))


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
