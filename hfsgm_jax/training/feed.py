"""What a training step is given beside the state: the data set itself, or the sets of this step read from disk."""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Generator
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, Sharding
from ml_collections import ConfigDict

from hfsgm_jax import config as config_lib
from hfsgm_jax import data
from hfsgm_jax import mesh as mesh_lib
from hfsgm_jax.config import ConfigError
from hfsgm_jax.training.step import BATCH_KEY


@dataclasses.dataclass(frozen=True)
class Feed:
    """The data of training.

    Attributes:
      sample: ``(argument, key) -> Batch``, for the compiled step.
      like: shapes of the argument, with its sharding.
      sharding: of every array of the argument.
      start: step -> generator of the arguments of this step and those after it; `close` it.
    """

    sample: Callable[[Any, jax.Array], Any]
    like: Any
    sharding: Sharding
    start: Callable[[int], Generator[Any, None, None]]


def check_feed(config: ConfigDict) -> None:
    """Raises a ConfigError where streaming and the steps per dispatch do not go together."""
    if config.data.stream and config.train.steps_per_dispatch != 1:
        raise ConfigError(
            f"data.stream=True gives the device one batch per call, and train.steps_per_dispatch is "
            f"{config.train.steps_per_dispatch}: set it to 1, or data.stream=False"
        )


def make_feed(dataset: Any, config: ConfigDict, mesh: Mesh) -> Feed:
    """The feed of the training data, in memory or streamed."""
    spec = data.SetSpec.from_config(config.data, config_lib.num_targets(config), replace=config.objective.tightened)
    return _stream_feed(dataset, spec, config, mesh) if config.data.stream else _table_feed(dataset, spec, mesh)


def _table_feed(dataset: Any, spec: Any, mesh: Mesh) -> Feed:
    whole = mesh_lib.replicated(mesh)
    table = mesh_lib.place(dataset.on_device(), whole)
    sample = functools.partial(data.sample_sets, spec=spec)
    return Feed(sample, _like(table, whole), whole, lambda step: (table for _ in itertools.count()))


def _stream_feed(dataset: Any, spec: Any, config: ConfigDict, mesh: Mesh) -> Feed:
    sharding = mesh_lib.by_rows(mesh)
    root = jax.random.key(config.seed)
    key_of = lambda step: jax.random.fold_in(jax.random.fold_in(root, step), BATCH_KEY)  # noqa: E731
    rows = _local_rows(sharding, spec.rows)
    place = functools.partial(jax.make_array_from_process_local_data, sharding)

    def start(step: int) -> Generator[Any, None, None]:
        with contextlib.closing(data.streamed_sets(dataset, spec, key_of, step, config.train.steps, rows)) as reading:
            for sets in reading:
                yield jax.tree.map(lambda x: place(x, (spec.rows, *x.shape[1:])), sets)

    table = dataset.on_device()._replace(images=jnp.zeros(0))
    drawn = jax.eval_shape(lambda: data.draw_sets(table, root, spec))
    images = jax.ShapeDtypeStruct((*drawn.mask.shape, *dataset.image_shape), dataset.images.dtype)
    sample = functools.partial(data.finish_sets, spec=spec)
    return Feed(sample, _like(drawn._replace(images=images), sharding), sharding, start)


def _like(tree: Any, sharding: Sharding) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _local_rows(sharding: Sharding, rows: int) -> tuple[int, ...]:
    """The rows of the global batch that this process's devices hold."""
    held = sharding.addressable_devices_indices_map((rows,)).values()
    return tuple(sorted({row for (part,) in held for row in range(rows)[part]}))
