"""Times a training step against that of the same model in PyTorch (`torch_peer`); needs the extra `torch`."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks import timing
from hfsgm_jax import data
from hfsgm_jax.training import setup

VARIANTS = "ours,eager,channels_last,compile,compile_channels_last"
_step: Callable[[], None]  # of a worker


def torch_peer(
    config: ConfigDict, variants: str = VARIANTS, cores: int = 0, rounds: int = 10, steps: int = 3
) -> Iterator[dict[str, Any]]:
    """Training steps of one model, ours and PyTorch's variants in turns on the same cores.

    CPU ms: of all cores together. Start: until two steps are done, compilation included. Peak GiB: of the process.

    A step draws a batch (sets, and their pixels anew), goes forward and backward, clips, updates Adam and averages the
    parameters, as the config says. Every variant has a process of its own; one waits while another runs, so that all
    meet the same machine. On a GPU float32 products are TF32 on both sides; model.dtype=bfloat16 is autocast there.

    Args:
      variants: with commas between them: ours, eager, compile, channels_last, compile_channels_last.
      cores: of every variant: our devices, PyTorch's threads (0: all).
      rounds, steps: turns of every variant, and optimizer steps of each.
    """
    from benchmarks.torch_peer import check, torch

    check(config)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes share a GPU
    pools = {name: ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) for name in variants.split(",")}
    try:
        starts = [pool.submit(_prepare, config, name, cores).result() for name, pool in pools.items()]
        turns = [[pool.submit(_turn, steps).result() for pool in pools.values()] for _ in range(rounds)]
    finally:
        for pool in pools.values():
            pool.shutdown()
    images = steps * config.data.sets_per_batch * config.data.set_size
    for name, start, (seconds, cpu_seconds, memory) in zip(pools, starts, np.transpose(turns, (1, 2, 0)), strict=True):
        yield {
            "name": name,
            **timing.rates(images, seconds, "images_per_second"),
            "cpu_seconds_per_image": np.median(cpu_seconds) / images,
            "seconds_to_start": start,
            "peak_memory_gib": memory.max(),
            "sets_per_batch": config.data.sets_per_batch,
            "set_size": config.data.set_size,
            "dtype": config.model.dtype,
            "torch": torch.__version__,
        }


def _prepare(config: ConfigDict, variant: str, cores: int) -> float:
    """Makes the step of this process; seconds until two are done."""
    global _step
    start = time.monotonic()
    used = sorted(os.sched_getaffinity(0))[: cores or None]
    os.sched_setaffinity(0, used)
    jax.config.update("jax_enable_compilation_cache", False)
    if variant == "ours":
        _step = our_step(config)
    else:
        from benchmarks.torch_peer import make_step

        _step = make_step(config, data.load_dataset(config.data, "train"), variant, len(used))
    _step(), _step()
    return time.monotonic() - start


def _turn(steps: int) -> tuple[float, float, float]:
    """Seconds and CPU seconds of so many steps; GiB of this process at most until now."""
    start, cpu = time.monotonic(), time.process_time()
    for _ in range(steps):
        _step()
    return time.monotonic() - start, time.process_time() - cpu, timing.peak_memory()["peak_memory_gib"]


def our_step(config: ConfigDict) -> Callable[[], None]:
    """One optimizer step of ours, as train.py compiles it."""
    run = setup(config)
    state, batches = run.state, run.batches(0)

    def step() -> None:
        nonlocal state
        state, metrics = run.step(state, next(batches))
        jax.block_until_ready(metrics)

    return step
