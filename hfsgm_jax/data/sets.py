"""Sampling of sets on the device: pure functions of a key."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hfsgm_jax.data import augment
from hfsgm_jax.data.errors import DataError, check_choice

BINARIZE = ("none", "dynamic")
_SHUFFLE = 2**32 - 1  # no row has this index


class ClassTable(NamedTuple):
    """A data set on the device; see `Dataset`. ``member`` is ``arange(largest class)``, which gives its static size."""

    images: jax.Array
    start: jax.Array
    size: jax.Array
    label: jax.Array
    group: jax.Array
    member: jax.Array


class Batch(NamedTuple):
    """Sets of images, one per row.

    Attributes:
      images: ``[B, N, H, W, C]`` float32 in [0, 1], 0 where not valid.
      mask: ``[B, N]`` bool, the valid slots: they come first.
      label, group: ``[B]`` int32, class and group ids.
      class_size: ``[B]`` float32, images of the whole class.
      member: ``[B, N]`` int32, index of the image within its class; -1 where not valid.
    """

    images: Any
    mask: Any
    label: Any
    group: Any
    class_size: Any
    member: Any


def set_size_range(set_size: int | tuple[int, int]) -> tuple[int, int]:
    """``(low, high)`` of ``data.set_size``."""
    low, high = tuple(set_size) if isinstance(set_size, (tuple, list)) else (int(set_size), int(set_size))
    if not 1 <= low <= high:
        raise DataError(f"data.set_size={set_size}: use an integer above 0, or (low, high) with 1 <= low <= high.")
    return low, high


@dataclasses.dataclass(frozen=True)
class SetSpec:
    """What a batch is made of; static and hashable. The keys are those of the config's section `data`.

    Attributes:
      rows: sets of the global batch.
      low, high: images per set, drawn uniformly; high is N.
      copies: factor on the class size, for augmentations that count as new images.
    """

    rows: int
    low: int
    high: int
    binarize: str = "none"
    flip: bool = False
    rotate: float = 0.0
    affine: float = 0.0
    dihedral: bool = False
    copies: int = 1

    @classmethod
    def from_config(cls, config: Any) -> "SetSpec":
        """The spec of ``config``, the config's section `data`."""
        low, high = set_size_range(config.set_size)
        check_choice("data.binarize", config.binarize, BINARIZE)
        if config.sets_per_batch < 1:
            raise DataError(f"data.sets_per_batch={config.sets_per_batch}: use an integer above 0.")
        return cls(
            rows=config.sets_per_batch,
            low=low,
            high=high,
            binarize=config.binarize,
            flip=config.flip,
            rotate=config.rotate,
            affine=config.affine,
            dihedral=config.dihedral,
        )


def sample_sets(table: ClassTable, key: jax.Array, spec: SetSpec, rows: jax.Array | None = None) -> Batch:
    """Draws sets: the classes without replacement where there are at least as many as rows, else with.

    Images within a set are distinct. A class with fewer images than the set gives all of them, the other slots
    are masked. With ``dihedral`` the 8 flips and quarter turns of a class are 8 classes, with the labels
    ``8 label + 0..7``.

    Args:
      table: from `Dataset.on_device`.
      key: used for nothing else; a batch is a pure function of it, and a row of it and the row's index.
      spec: static.
      rows: ``[R]`` indices of the rows to draw, for a process's share of the batch; default: all.
    """
    rows = jnp.arange(spec.rows) if rows is None else rows
    orbit = augment.DIHEDRAL if spec.dihedral else 1
    num_classes = table.size.shape[0] * orbit
    row_keys = jax.vmap(jax.random.fold_in, (None, 0))(key, rows)
    # One draw per row for all its small decisions: threefry is slow to compile on a CPU, each call adds to it.
    draws = jax.vmap(lambda k: jax.random.uniform(k, (2 + max(table.member.shape[0], spec.high),)))(row_keys)
    if num_classes >= spec.rows:
        shuffle_key = jax.random.fold_in(key, _SHUFFLE)
        classes = jax.lax.top_k(jax.random.uniform(shuffle_key, (num_classes,)), spec.rows)[1][rows]
    else:
        classes = jnp.floor(draws[:, 0] * num_classes).astype(jnp.int32)
    turn, classes = classes % orbit, classes // orbit
    size = table.size[classes]
    member, mask = _members(draws[:, 1:], size, spec)
    images = _to_float(table.images[table.start[classes][:, None] + jnp.where(mask, member, 0)])
    images = augment.augment_rows(row_keys, images, turn, spec)
    images = jnp.where(mask[:, :, None, None, None], images, 0)
    if spec.binarize == "dynamic":
        images = augment.binarize_rows(row_keys, images)
    label = table.label[classes]
    return Batch(
        images=images,
        mask=mask,
        label=label * orbit + turn if spec.dihedral else label,
        group=table.group[classes],
        class_size=(size * spec.copies).astype(jnp.float32),
        member=jnp.where(mask, member, -1),
    )


def _members(draws: jax.Array, size: jax.Array, spec: SetSpec) -> tuple[jax.Array, jax.Array]:
    """Distinct random members ``[R, N]`` of classes of ``size`` ``[R]`` images, and which of them are valid.

    Args:
      draws: ``[R, 1 + largest class]`` uniform in [0, 1): for the set's size, and an order of the members.
    """
    order = draws[:, 1:]
    order = jnp.where(jnp.arange(order.shape[1]) < size[:, None], order, -1.0)
    member = jax.lax.top_k(order, spec.high)[1].astype(jnp.int32)
    count = spec.low + jnp.floor(draws[:, 0] * (spec.high + 1 - spec.low)).astype(jnp.int32)
    return member, jnp.arange(spec.high) < jnp.minimum(count, size)[:, None]


def _to_float(images: jax.Array) -> jax.Array:
    return images.astype(jnp.float32) / 255 if images.dtype == jnp.uint8 else images
