"""Functions of one row, such as a set, for many rows: the one way that validation and evaluation compute."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from hfsgm_jax import devices, sampling


def each_row(
    one: Callable, static: dict, model: Any, variables, rows, *, key: Any, mesh: Mesh, at_once: int, progress=iter
) -> Iterator[Any]:
    """The results of ``one`` for rows, a batch of one compiled shape at a time; every process gets all of them.

    Every row has its own key (``key`` and its number) and sees no other row, so that its result depends neither on its
    batch nor on the devices. Compiled once per function, options and shape.

    Args:
      one: ``(apply, encode, row, key, **static) -> pytree of arrays``, the same object at every call. ``apply`` and
        ``encode`` are those of `sampling.bind`; ``row`` has no row axis (`trace.as_batch` adds one).
      static: hashable options of ``one``.
      model, variables: a Flax module and its variables.
      rows: pytree of arrays with a leading axis of rows, such as `Sets`.
      key: of the noise.
      at_once: rows of a batch, which is rounded up to a multiple of the devices.
      progress: wraps the iterable of the batches' first rows.

    Yields:
      The pytree of ``one``, every array with a leading axis of rows.
    """
    rows = jax.tree.map(np.asarray, rows)
    total = len(jax.tree.leaves(rows)[0])
    size = -(-min(at_once, total) // mesh.size) * mesh.size
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(total))
    for start in progress(range(0, total, size)):
        index = np.minimum(np.arange(start, start + size), total - 1)  # the last batch repeats a row
        batch = jax.tree.map(lambda x, index=index: x[index], rows)
        placed = devices.place((batch, keys[index]), devices.by_rows(mesh))
        found = _of_rows(one, tuple(sorted(static.items())), model, mesh, variables, *placed)
        yield jax.tree.map(lambda x, start=start: x[: total - start], jax.device_get(found))


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _of_rows(one: Callable, static: tuple, model: Any, mesh: Mesh, variables: Any, *rows: Any) -> Any:
    """The results of ``one`` for rows and their keys, spread over the mesh."""

    def run(variables, rows, keys):
        apply, encode = sampling.bind(model, variables)
        return jax.vmap(lambda row, key: one(apply, encode, row, key, **dict(static)))(rows, keys)

    # shard_map, not a sharding constraint: no row needs another, so devices need not talk.
    whole, by_row = PartitionSpec(), PartitionSpec("data")
    specs = dict(mesh=mesh, in_specs=(whole, by_row, by_row), out_specs=by_row, check_vma=False)
    return jax.lax.with_sharding_constraint(jax.shard_map(run, **specs)(variables, *rows), devices.replicated(mesh))
