"""Devices: the ("data",) mesh, the two shardings in use, the compilation cache, the memory of a CPU process.

Everything runs under ``jax.jit`` with explicit shardings over a mesh, which is what ``jax.pmap``
became (in maintenance mode since JAX 0.8). Only the batch is split, and only along its rows:
aggregation over a set stays on one device. The mesh is that of all processes (`processes`).
"""

import contextlib
import ctypes
import functools
import importlib.metadata
import importlib.util
import math
import mmap
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from hfsgm_jax.errors import ConfigError


def make_mesh(num_devices: int = 0) -> Mesh:
    """A ``("data",)`` mesh over the first ``num_devices`` devices of all processes (0: all of them).

    Raises:
      ConfigError: there are fewer devices, or some of several processes would have none.
    """
    devices = jax.devices()
    count = num_devices or len(devices)
    if count > len(devices) or jax.process_count() > 1 and count < len(devices):
        seen = f"JAX sees {len(devices)}: {devices}; several processes use all of theirs (train.devices=0)"
        raise ConfigError(f"train.devices is {num_devices}, but {seen}")
    return jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=devices[:count])


def use_cpu_cores(rows: int = 0, devices: int = 0) -> None:
    """Without an accelerator: ``devices``, or (0) one device per core, as far as they divide ``rows`` (0: all divide).

    XLA runs most convolutions of a CPU device on one core, so that large maps ask for one device per core; of
    small ones (patches of 4x4 pixels) two devices of 4 rows do 1.2 to 1.4 times as much as one of 8. The number stays
    where it was chosen (``JAX_NUM_CPU_DEVICES``, or the flag it replaces), JAX has already started, or there are
    several processes, which may share the cores. Programs are compiled at LLVM's second level, unless
    XLA_FLAGS names one.
    """
    keep_freed_memory()
    flags = os.environ.get("XLA_FLAGS", "")
    if _no_accelerator() and "xla_backend_optimization_level" not in flags:
        # The default is 3; at 2 large programs compile sooner and run as fast.
        os.environ["XLA_FLAGS"] = f"{flags} --xla_backend_optimization_level=2".strip()
    chosen = jax.config.jax_num_cpu_devices > 0 or "host_platform_device_count" in flags
    if chosen or jax.distributed.is_initialized():
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", max(n for n in range(1, (devices or cores) + 1) if rows % n == 0))


def _no_accelerator() -> bool:
    """True where JAX will find none, asked before it looks."""
    plugins = importlib.metadata.entry_points(group="jax_plugins") or importlib.util.find_spec("libtpu")
    return not plugins or os.environ.get("JAX_PLATFORMS") == "cpu"


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device: states, the data table."""
    return NamedSharding(mesh, PartitionSpec())


def by_rows(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Rows (sets) spread over the devices; ``axis`` is the axis of the rows."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))


def place(tree: Any, sharding: NamedSharding) -> Any:
    """Arrays that are the same in every process, on the mesh; keys too. A process copies its devices' parts."""

    def put(x):
        x = x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(put, tree)


def place_local_rows(tree: Any, mesh: Mesh, rows: int) -> Any:
    """Arrays ``[local rows, ...]``, those of `local_rows`, as the batch of ``rows`` rows of all processes."""
    put = functools.partial(jax.make_array_from_process_local_data, by_rows(mesh))
    return jax.tree.map(lambda x: put(x, (rows, *x.shape[1:])), tree)


def local_rows(mesh: Mesh, rows: int) -> tuple[int, ...]:
    """The rows of a batch of ``rows`` that this process's devices hold."""
    held = by_rows(mesh).addressable_devices_indices_map((rows,)).values()
    return tuple(sorted({row for (part,) in held for row in range(rows)[part]}))


def check_memory(state: Any, mesh: Mesh) -> None:
    """Raises a ConfigError where a device (of CPU devices the machine) cannot hold a training's state and gradients."""
    size = lambda tree: sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
    device, need = jax.local_devices()[0], size(state) + size(state.params)
    limit = (device.memory_stats() or {}).get("bytes_limit", math.inf)
    if device.platform == "cpu":
        limit = os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE / len(mesh.local_devices)
    if need > limit:
        sizes = f"take {need / 2**30:,.1f} GiB, and a device has {limit / 2**30:,.1f} GiB"
        raise ConfigError(f"parameters, optimizer state and gradients {sizes}: use a smaller model (model.width)")


def jit_once(function: Callable, **options: Any) -> Callable:
    """`jax.jit` for what runs once: on a CPU compiled in half the time or less, and slower to run."""
    if jax.default_backend() == "cpu":
        options["compiler_options"] = {"xla_backend_optimization_level": 0}
    return jax.jit(function, **options)


def use_compilation_cache() -> None:
    """Keeps compiled programs between runs, unless the user chose a folder (or none) already.

    JAX tells apart those of different processors, so that machines may share a home.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ or jax.config.jax_compilation_cache_dir is not None:
        return
    jax.config.update("jax_compilation_cache_dir", str(Path.home() / ".cache" / "hfsgm_jax" / "xla"))


# --- The heap of a process that computes on a CPU -------------------------------------------------
#
# XLA takes and frees the memory of a CPU program, and of many of its operations, at every call. glibc would give large
# blocks back to the system, which clears them page by page at the next call; and a compilation leaves hundreds of
# thousands of free pieces, among which every later request is searched: steps take much longer than those of the same
# program read from the compilation cache. Other C libraries and accelerators are left alone.

LONG = 1.0  # seconds of compilation, of which setting aside takes about a hundredth
LARGEST, SMALLEST, EVEN = 2**26, 48, 16  # bytes of the pieces asked for, and the unit of glibc's sizes
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # malloc.h


@functools.cache  # once per process
def keep_freed_memory() -> None:
    """Without an accelerator: memory that a program frees stays with the process, in one piece.

    Does nothing where JAX may find an accelerator, with another C library, or where the user set one of glibc's
    variables ``MALLOC_...`` or its tunables.
    """
    chosen = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if platform.libc_ver()[0] != "glibc" or chosen or not _no_accelerator():
        return
    # One arena for all threads, as others are too small; no block by mmap; nothing given back from the top.
    for parameter, value in ((M_ARENA_MAX, 1), (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1)):
        ctypes.CDLL(None).mallopt(parameter, value)
    jax.monitoring.register_event_duration_secs_listener(_after_event)


def _after_event(event: str, seconds: float, **_) -> None:
    if event == "/jax/core/compile/backend_compile_duration" and seconds > LONG:
        set_aside_free_pieces()


def set_aside_free_pieces() -> None:
    """Takes every free piece of glibc's heap out of use, but the one at its end.

    Whole pages of theirs return to the system, so that the process becomes smaller. They are asked for and never given
    back, so that what is asked for from now on lies together at the end of the heap. Meant for the moment after a long
    compilation.
    """
    libc = ctypes.CDLL(None)
    libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
    libc.malloc.argtypes, libc.sbrk.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_long], [ctypes.c_void_p]
    libc.malloc_trim(ctypes.c_size_t(0))  # of the piece at the end it leaves a page at most
    end, size = libc.sbrk(0) - 2 * mmap.PAGESIZE, LARGEST
    while size >= SMALLEST:
        piece = libc.malloc(size)
        if piece is None or piece >= end:  # no free piece of this size is left before it
            libc.free(piece)
            size = int(0.8 * size) // EVEN * EVEN
