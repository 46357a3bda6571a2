"""Batches of streamed sets: drawn by key, read by Grain's threads ahead of time."""

import functools
import os
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from hfsgm_jax.data.dataset import Dataset
from hfsgm_jax.data.sets import SetSpec, draw_sets
from hfsgm_jax.data.tfds_prepare import import_optional
from hfsgm_jax.trace import Sets

_THREADS = 8  # at least; reading waits for disks
_AHEAD = 4  # batches


def streamed_sets(
    dataset: Dataset, spec: SetSpec, key_of: Callable, start: int, stop: int, rows: Sequence[int]
) -> Iterator[Sets]:
    """The sets of the steps ``start`` to ``stop``, images uint8: `finish_sets` completes them on the device.

    A step's sets are those that `sample_sets` draws from the same data in memory with the same key, whatever the step
    that reading started at.

    Args:
      key_of: step -> the key of its batch; is traced.
      rows: those of the global batch that this process reads.

    Returns:
      An iterator of sets of host arrays with a method `close`, which ends the reading.
    """
    grain = import_optional("grain")
    try:  # the accelerator is busy with a step
        device = jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        device = jax.local_devices()[0]
    table = jax.device_put(dataset.table(images=False), device)
    draw = jax.jit(lambda table, step: draw_sets(table, key_of(step), spec))

    @functools.lru_cache(maxsize=4 * _AHEAD)
    def drawn(step: int) -> Sets:
        """The global batch's choice of images, which the rows of a step share."""
        return jax.tree.map(np.asarray, draw(table, np.int32(step)))

    def read(number: int) -> Sets:
        step, row = start + number // len(rows), rows[number % len(rows)]
        sets = jax.tree.map(lambda x: x[row], drawn(step))
        return sets.replace(images=dataset.images[sets.images])

    threads, ahead = max(_THREADS, os.cpu_count() or 1), max(_AHEAD * len(rows), 16)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    numbers = grain.MapDataset.range((stop - start) * len(rows))
    return iter(numbers.map(read).to_iter_dataset(options).batch(len(rows)))
