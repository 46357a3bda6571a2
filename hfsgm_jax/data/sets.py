"""Sampling of sets on the device: pure functions of a key."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hfsgm_jax.data import augment, styles
from hfsgm_jax.data.errors import DataError, check_choice

BINARIZE = ("none", "dynamic")
_SHUFFLE = 2**32 - 1  # no row has this index


class ClassTable(NamedTuple):
    """A data set on the device; see `Dataset`. ``member`` is ``arange(largest class)``, which gives its static size.

    ``images`` is None where they are streamed; ``styled`` (a `styles.StyledPlaces`) where images have no styles.
    """

    images: jax.Array
    start: jax.Array
    size: jax.Array
    label: jax.Array
    group: jax.Array
    member: jax.Array
    styled: styles.StyledPlaces | None = None


class Batch(NamedTuple):
    """Sets of images, one per row.

    Attributes:
      images: ``[B, N, H, W, C]`` float32 in [0, 1], 0 where not valid.
      mask: ``[B, N]`` bool, the valid slots; of each part (context, group, style, targets) the first.
      label, group: ``[B]`` int32, class and group ids.
      class_size: ``[B]`` float32, images of the whole class.
      member: ``[B, N]`` int32, index of the image within its class; -1 where not valid.
      context: plate -> ``[B, N]`` bool, which slots inform its latents; None: all that are valid.
      target: ``[B, N]`` bool, which slots are scored; None: all that are valid.
      sizes: plate -> ``[B]`` float32, how many images share its latent; None: ``class_size`` for the set.
      style: ``[B]`` int32, style of the target and of the images that inform the style's latent, or None.
    """

    images: Any
    mask: Any
    label: Any
    group: Any
    class_size: Any
    member: Any
    context: Any = None
    target: Any = None
    sizes: Any = None
    style: Any = None


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
      low, high: images per context, drawn uniformly: the first ``high`` slots.
      targets: images to be scored that are drawn apart from the context, the last slots; 0: the context is scored.
      group_size: images of the class's group, between the two, that inform the group's latent.
      styles: in how many styles the images are drawn; 0: they have none.
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
    dihedral: bool = False
    targets: int = 0
    group_size: int = 0
    styles: int = 0
    style_size: int = 0
    replace: bool = False
    copies: int = 1

    @property
    def num_slots(self) -> int:
        """N."""
        return self.high + self.group_size + self.style_size + self.targets

    @classmethod
    def from_config(cls, config: Any, targets: int = 0, replace: bool = False) -> "SetSpec":
        """The spec of ``config``, the config's section `data`, with as many targets as the objective asks for."""
        low, high = set_size_range(config.set_size)
        check_choice("data.binarize", config.binarize, BINARIZE)
        if config.sets_per_batch < 1:
            raise DataError(f"data.sets_per_batch={config.sets_per_batch}: use an integer above 0.")
        styles.check_styles(config, targets)
        return cls(
            rows=config.sets_per_batch,
            low=low,
            high=high,
            binarize=config.binarize,
            flip=config.flip,
            rotate=config.rotate,
            affine=config.affine,
            dihedral=config.dihedral,
            targets=targets,
            group_size=config.group_size,
            styles=config.styles,
            style_size=config.style_size,
            replace=replace,
            copies=config.copies,
        )


class Drawn(NamedTuple):
    """Sets before their images are changed: which classes and which of their images.

    Attributes:
      images: ``[B, N, H, W, C]`` uint8, or ``[B, N]`` int32, their places in the data set; any where not valid.
      mask: ``[B, N]`` bool, the valid slots; of each part (context, group, style, targets) the first.
      member: ``[B, N]`` int32, index of the image within its class; any where not valid.
      group_images: ``[B]`` int32, images of the whole group, or None.
      turn: ``[B]`` int32, the dihedral copy.
      size, label, group: ``[B]`` int32: images of the class, class and group ids.
      style: ``[B, N]`` int32, of every image (of the target in the last slot), or None.
      style_images: ``[B]`` int32, images of the target's style, or None.
    """

    images: Any
    mask: Any
    member: Any
    group_images: Any
    turn: Any
    size: Any
    label: Any
    group: Any
    style: Any = None
    style_images: Any = None


def sample_sets(table: ClassTable, key: jax.Array, spec: SetSpec, rows: jax.Array | None = None) -> Batch:
    """Draws sets: the classes without replacement where there are at least as many as rows, else with.

    Images within a context (unless ``spec.replace``) and within the targets are distinct; a target may also be in the
    context, from which it is drawn apart. A class with fewer images than the set gives all of them, the other slots
    are masked. With ``dihedral`` the 8 flips and quarter turns of a class are 8 classes, with the labels
    ``8 label + 0..7``.

    Args:
      table: from `Dataset.on_device`.
      key: used for nothing else; a batch is a pure function of it, and a row of it and the row's index.
      spec: static.
      rows: ``[R]`` indices of the rows to draw, for a process's share of the batch; default: all.
    """
    drawn = draw_sets(table, key, spec, rows)
    return finish_sets(drawn._replace(images=table.images[drawn.images]), key, spec, rows)


def draw_sets(table: ClassTable, key: jax.Array, spec: SetSpec, rows: jax.Array | None = None) -> Drawn:
    """The first half of `sample_sets`: which images. ``table.images`` is not looked at."""
    orbit = augment.DIHEDRAL if spec.dihedral else 1
    num_classes = table.size.shape[0] * orbit
    rows, row_keys = _row_keys(key, spec, rows)
    # One draw per row for all its small decisions: threefry is slow to compile on a CPU, each call adds to it.
    largest = max(table.member.shape[0], spec.high, spec.targets)
    counts = 1, 1 + largest, largest if spec.targets else 0, spec.group_size, spec.style_size
    draws = jax.vmap(lambda k: jax.random.uniform(k, (sum(counts),)))(row_keys)
    first, for_context, for_targets, for_group, for_style = jnp.split(draws, np.cumsum(counts)[:-1], axis=1)
    if num_classes >= spec.rows:
        shuffle_key = jax.random.fold_in(key, _SHUFFLE)
        classes = jax.lax.top_k(jax.random.uniform(shuffle_key, (num_classes,)), spec.rows)[1][rows]
    else:
        classes = jnp.floor(first[:, 0] * num_classes).astype(jnp.int32)
    turn, classes = classes % orbit, classes // orbit
    size = table.size[classes]
    of_class = lambda member, mask: (member, mask, table.start[classes][:, None] + jnp.where(mask, member, 0))  # noqa: E731
    parts, group_images, style_images = [of_class(*_members(for_context, size, spec))], None, None
    if spec.group_size:
        places, group_images = _of_group(table, classes, for_group)
        parts.append(_others(places))
    if spec.targets:
        parts.append(of_class(*_distinct(for_targets, size, spec.targets)))
    if spec.styles:
        style = table.styled.style[parts[-1][2][:, -1]]
        parts.insert(-1, _others(styles.same_style(table.styled, style, for_style)))
        style_images = table.styled.size[style]
    member, mask, places = (jnp.concatenate(columns, 1) for columns in zip(*parts))
    return Drawn(
        images=places,
        mask=mask,
        member=member,
        group_images=group_images,
        turn=turn,
        size=size,
        label=table.label[classes],
        group=table.group[classes],
        style=table.styled.style[places] if spec.styles else None,
        style_images=style_images,
    )


def _others(places: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Slots of images that need not be of the row's class: no member, all valid, where they are."""
    return jnp.full(places.shape, -1, jnp.int32), jnp.ones(places.shape, bool), places


def finish_sets(drawn: Drawn, key: jax.Array, spec: SetSpec, rows: jax.Array | None = None) -> Batch:
    """The second half of `sample_sets`: augmentation and binarisation. ``drawn.images`` are uint8 or float."""
    orbit = augment.DIHEDRAL if spec.dihedral else 1
    _, row_keys = _row_keys(key, spec, rows)
    mask, label = drawn.mask, drawn.label
    images = augment.augment_rows(row_keys, _to_float(drawn.images), drawn.turn, spec)
    if spec.styles:
        images = styles.render(images, drawn.style, spec.styles)
    images = jnp.where(mask[:, :, None, None, None], images, 0)
    if spec.binarize == "dynamic":
        images = augment.binarize_rows(row_keys, images)
    return Batch(
        images=images,
        mask=mask,
        label=label * orbit + drawn.turn if spec.dihedral else label,
        group=drawn.group,
        class_size=(drawn.size * spec.copies).astype(jnp.float32),
        member=jnp.where(mask, drawn.member, -1),
        style=drawn.style[:, -1] if spec.styles else None,
        **_roles(drawn, spec),
    )


def _roles(drawn: Drawn, spec: SetSpec) -> dict[str, Any]:
    """What the slots are for, where they are not all the same."""
    if not (spec.targets or spec.group_size):
        return {}
    sizes = spec.high, spec.group_size, spec.style_size, spec.targets
    part = jnp.asarray(np.repeat(np.arange(4), sizes))  # of every slot
    context, sizes = {"set": drawn.mask & (part == 0)}, {"set": drawn.size}
    if spec.group_size:
        context["group"], sizes["group"] = drawn.mask & (part == 1), drawn.group_images
    if spec.styles:
        context["style"], sizes["style"] = drawn.mask & (part == 2), drawn.style_images
    sizes = {plate: (size * spec.copies).astype(jnp.float32) for plate, size in sizes.items()}
    return dict(context=context, target=drawn.mask & (part == (3 if spec.targets else 0)), sizes=sizes)


def _row_keys(key: jax.Array, spec: SetSpec, rows: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    rows = jnp.arange(spec.rows) if rows is None else rows
    return rows, jax.vmap(jax.random.fold_in, (None, 0))(key, rows)


def _members(draws: jax.Array, size: jax.Array, spec: SetSpec) -> tuple[jax.Array, jax.Array]:
    """Distinct random members ``[R, N]`` of classes of ``size`` ``[R]`` images, and which of them are valid.

    Args:
      draws: ``[R, 1 + largest class]`` uniform in [0, 1): for the set's size, and an order of the members.
    """
    count = spec.low + jnp.floor(draws[:, 0] * (spec.high + 1 - spec.low)).astype(jnp.int32)
    if spec.replace:
        member = jnp.floor(draws[:, 1 : 1 + spec.high] * size[:, None]).astype(jnp.int32)
        return member, jnp.arange(spec.high) < count[:, None]
    member, valid = _distinct(draws[:, 1:], size, spec.high)
    return member, valid & (jnp.arange(spec.high) < count[:, None])


def _distinct(draws: jax.Array, size: jax.Array, num: int) -> tuple[jax.Array, jax.Array]:
    """``num`` distinct members of classes of ``size`` ``[R]`` images in the order of ``draws``; which are valid."""
    order = jnp.where(jnp.arange(draws.shape[1]) < size[:, None], draws, -1.0)
    return jax.lax.top_k(order, num)[1].astype(jnp.int32), jnp.arange(num) < size[:, None]


def _of_group(table: ClassTable, classes: jax.Array, draws: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Places of images drawn from the groups of ``classes`` ``[R]`` with replacement, and these groups' sizes."""

    def one(group, u):
        ends = jnp.cumsum(jnp.where(table.group == group, table.size, 0))
        number = jnp.floor(u * ends[-1]).astype(jnp.int32)
        owner = jnp.searchsorted(ends, number, side="right")
        return table.start[owner] + number - (ends[owner] - table.size[owner]), ends[-1]

    return jax.vmap(one)(table.group[classes], draws)


def _to_float(images: jax.Array) -> jax.Array:
    images = jnp.asarray(images)  # numpy divides to other last bits
    return images.astype(jnp.float32) / 255 if images.dtype == jnp.uint8 else images
