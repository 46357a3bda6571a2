"""Sampling of sets on the device: pure functions of a key."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hfsgm_jax.data import augment, styles
from hfsgm_jax.data.dataset import Table
from hfsgm_jax.trace import GROUP, SET, STYLE, Sets

BINARIZE = ("none", "dynamic")
_SHUFFLE = 2**32 - 1  # no row has this index


def set_size_range(set_size: int | tuple[int, int]) -> tuple[int, int]:
    """``(low, high)`` of ``data.set_size``."""
    return tuple(set_size) if isinstance(set_size, tuple | list) else (set_size, set_size)


@dataclasses.dataclass(frozen=True)
class SetSpec:
    """The make-up of a batch; static and hashable. The keys are those of the config's section `data`.

    Attributes:
      rows: sets of the global batch.
      low, high: images per context, drawn uniformly: the first ``high`` slots.
      augmented: share of the sets that ``flip``, ``rotate`` and ``affine`` change.
      binary: pixels are 0 or 1, and stay so in warps.
      targets: images to be scored that are drawn apart from the context, the last slots; 0: the context is scored.
      group_size: images of the class's group, between the two, that inform the group's latent.
      styles: number of styles of the images; 0: they have none.
      style_size: images of the target's style, before the target, that inform the style's latent.
      replace: the context is drawn with replacement.
      copies: factor on the class size, for augmentations that count as new images.
    """

    rows: int
    low: int
    high: int
    binarize: str = "none"
    flip: bool = False
    rotate: float = 0.0
    affine: float = 0.0
    augmented: float = 1.0
    binary: bool = False
    dihedral: bool = False
    targets: int = 0
    group_size: int = 0
    styles: int = 0
    style_size: int = 0
    replace: bool = False
    copies: int = 1

    @classmethod
    def from_config(cls, config: Any, targets: int = 0, replace: bool = False, binary: bool = False) -> "SetSpec":
        """The spec of ``config``, the config's section `data`, with as many targets as the objective asks for."""
        same = {key: value for key, value in config.items() if key in cls.__dataclass_fields__}
        low, high = set_size_range(config.set_size)
        return cls(config.sets_per_batch, low, high, **same, targets=targets, replace=replace, binary=binary)


def sample_sets(table: Table, key: jax.Array, spec: SetSpec) -> Sets:
    """Draws sets: the classes without replacement where there are at least as many as rows, else with.

    Images within a context (unless ``spec.replace``) and within the targets are distinct; a target may also be in the
    context, from which it is drawn apart. A class with fewer images than the set gives all of them, the other slots
    are absent: not present, image 0, member -1. Without targets every image is context and target. With ``dihedral``
    the 8 flips and quarter turns of a class are 8 classes, with the ids ``8 label + 0..7``.

    Args:
      table: from `Dataset.table`.
      key: used for nothing else; a batch is a pure function of it, and a row of it and the row's index.
      spec: static.
    """
    sets = draw_sets(table, key, spec)
    return finish_sets(sets.replace(images=table.images[sets.images]), key, spec)


def draw_sets(table: Table, key: jax.Array, spec: SetSpec) -> Sets:
    """The first half of `sample_sets`, which does without ``table.images``.

    Returns:
      Sets with ``images`` ``[B, N]`` int32, indices of images of the data set (any where absent), and with ``ids`` of
      styles of every image ``[B, N]``.
    """
    # One draw per row for all its small decisions: threefry is slow to compile on a CPU, each call adds to it.
    largest = max(table.member.shape[0], spec.high, spec.targets)
    counts = 1, 1 + largest, largest if spec.targets else 0, spec.group_size, spec.style_size
    draws = jax.vmap(lambda k: jax.random.uniform(k, (sum(counts),)))(_row_keys(key, spec))
    for_class, for_context, for_targets, for_group, for_style = jnp.split(draws, np.cumsum(counts)[:-1], axis=1)
    copies = augment.DIHEDRAL if spec.dihedral else 1
    copy = _draw_classes(key, for_class[:, 0], copies * len(table.size))
    classes, dihedral_index = copy // copies, copy % copies
    size = table.size[classes]
    of_class = lambda member, mask: (member, mask, table.start[classes][:, None] + jnp.where(mask, member, 0))
    of_any = lambda index: (jnp.full(index.shape, -1, jnp.int32), jnp.ones(index.shape, bool), index)
    parts, sizes = {SET: of_class(*_draw_context(for_context, size, spec))}, {SET: size}
    ids = {SET: table.label[classes] * copies + dihedral_index, GROUP: table.group[classes]}
    targets = of_class(*_draw_distinct(for_targets, size, spec.targets))
    if spec.group_size:
        index, sizes[GROUP] = _draw_group(table, classes, for_group)
        parts[GROUP] = of_any(index)
    if spec.styles:
        *_, target_index = targets
        style = table.style[target_index[:, -1]]
        parts[STYLE] = of_any(_draw_style(table, style, for_style))
        sizes[STYLE] = table.style_size[style]
    drawn = [*parts.values(), targets]
    member, mask, index = (jnp.concatenate(columns, 1) for columns in zip(*drawn))
    if spec.styles:
        ids[STYLE] = table.style[index]
    part = np.repeat(range(len(drawn)), [there.shape[1] for _, there, _ in drawn])  # of every slot: which of `drawn`
    scored = len(parts) if spec.targets else 0  # the targets, or the context
    sets = Sets.of(index, mask, target=mask & (part == scored))
    return sets.replace(
        context={plate: mask & (part == number) for number, plate in enumerate(parts)},
        sizes={plate: (size * spec.copies).astype(jnp.float32) for plate, size in sizes.items()},
        ids=ids,
        member=jnp.where(mask, member, -1),
    )


def finish_sets(sets: Sets, key: jax.Array, spec: SetSpec) -> Sets:
    """The second half of `sample_sets`: styles, augmentation and binarisation.

    Args:
      sets: from `draw_sets`, their ``images`` ``[B, N, H, W, C]`` as the data set has them: uint8 or float.
      key, spec: those of `draw_sets`.
    """
    row_keys = _row_keys(key, spec)
    images, ids = jnp.asarray(sets.images), dict(sets.ids)
    images = images.astype(jnp.float32) / 255 if images.dtype == jnp.uint8 else images  # numpy has other last bits
    images = augment.augment_rows(row_keys, images, ids[SET] % augment.DIHEDRAL, spec)
    if spec.styles:
        images = styles.render(images, ids[STYLE], spec.styles)
        ids[STYLE] = ids[STYLE][:, -1]
    images = jnp.where(sets.present[:, :, None, None, None], images, 0)
    if spec.binarize == "dynamic":
        images = augment.binarize_rows(row_keys, images)
    return sets.replace(images=images, ids=ids)


def _row_keys(key: jax.Array, spec: SetSpec) -> jax.Array:
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(spec.rows))


def _draw_classes(key: jax.Array, draws: jax.Array, num: int) -> jax.Array:
    """The class of every row, of ``num``: distinct ones where there are enough, else by ``draws``."""
    if num < len(draws):
        return jnp.floor(draws * num).astype(jnp.int32)
    return jax.lax.top_k(jax.random.uniform(jax.random.fold_in(key, _SHUFFLE), (num,)), len(draws))[1]


def _draw_context(draws: jax.Array, size: jax.Array, spec: SetSpec) -> tuple[jax.Array, jax.Array]:
    """Random members ``[R, N]`` of classes of ``size`` ``[R]`` images, and which of them are valid.

    Args:
      draws: ``[R, 1 + largest class]`` uniform in [0, 1): for the set's size, and an order of the members.
    """
    count = spec.low + jnp.floor(draws[:, 0] * (spec.high + 1 - spec.low)).astype(jnp.int32)
    within = jnp.arange(spec.high) < count[:, None]
    if spec.replace:
        return jnp.floor(draws[:, 1 : 1 + spec.high] * size[:, None]).astype(jnp.int32), within
    member, valid = _draw_distinct(draws[:, 1:], size, spec.high)
    return member, valid & within


def _draw_distinct(draws: jax.Array, size: jax.Array, num: int) -> tuple[jax.Array, jax.Array]:
    """``num`` distinct members of classes of ``size`` ``[R]`` images in the order of ``draws``; which are valid."""
    order = jnp.where(jnp.arange(draws.shape[1]) < size[:, None], draws, -1.0)
    return jax.lax.top_k(order, num)[1].astype(jnp.int32), jnp.arange(num) < size[:, None]


def _draw_group(table: Table, classes: jax.Array, draws: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Indices of images drawn from the groups of ``classes`` ``[R]`` with replacement, and these groups' sizes."""

    def one(group, u):
        ends = jnp.cumsum(jnp.where(table.group == group, table.size, 0))
        number = jnp.floor(u * ends[-1]).astype(jnp.int32)
        owner = jnp.searchsorted(ends, number, side="right")
        return table.start[owner] + number - (ends[owner] - table.size[owner]), ends[-1]

    return jax.vmap(one)(table.group[classes], draws)


def _draw_style(table: Table, style: jax.Array, draws: jax.Array) -> jax.Array:
    """Indices of images of ``style`` ``[R]``, any class, with replacement; ``draws`` ``[R, k]`` uniform in [0, 1)."""
    start = jnp.cumsum(table.style_size) - table.style_size
    number = jnp.floor(draws * table.style_size[style][:, None]).astype(jnp.int32)
    return table.style_order[start[style][:, None] + number]
