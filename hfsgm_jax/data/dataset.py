"""One split of a source, in host memory, or with images that are read when they are asked for."""

import copy
import dataclasses
import hashlib
from typing import Any

import jax.numpy as jnp
import numpy as np

from hfsgm_jax.data import styles
from hfsgm_jax.data.cache import Table, load_streamed_table, load_table
from hfsgm_jax.data.errors import DataError, check_choice
from hfsgm_jax.data.resize import RESIZES, check_resize, resize_for
from hfsgm_jax.data.sets import ClassTable, SetSpec, set_size_range
from hfsgm_jax.data.sources import SOURCES
from hfsgm_jax.data.splits import SCHEMES, SPLITS, split_classes
from hfsgm_jax.data.streamed import StreamedImages, subset


@dataclasses.dataclass
class Dataset:
    """Images of the classes of one split, grouped by class.

    Attributes:
      images: ``[n, H, W, C]`` uint8 0..255 with ink high, or float32 as the source has it; with `data.stream`,
        `StreamedImages`, which is indexed like an array.
      start, size, label, group: int32 ``[classes]``: first image, number of images, class id, group id.
      style: int32 ``[n]``, the style that each grey image is to be drawn in (`styles.render`), or None.
      info: source, split, scheme, resize, image_size, channels, num_classes, num_images, sha256 of the images …
    """

    images: np.ndarray
    start: np.ndarray
    size: np.ndarray
    label: np.ndarray
    group: np.ndarray
    info: dict[str, Any]
    style: np.ndarray | None = None

    @property
    def num_classes(self) -> int:
        return len(self.label)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.images.shape[1:]

    def on_device(self) -> ClassTable:
        """The arrays that `sample_sets` takes, as an argument of the jitted step; without streamed images (None)."""
        return ClassTable(
            images=None if isinstance(self.images, StreamedImages) else jnp.asarray(self.images),
            start=jnp.asarray(self.start),
            size=jnp.asarray(self.size),
            label=jnp.asarray(self.label),
            group=jnp.asarray(self.group),
            member=jnp.arange(self.size.max(), dtype=jnp.int32),
            styled=None if self.style is None else styles.on_device(self.style, self.info["styles"]),
        )


def check_data(config: Any, targets: int = 0) -> None:
    """Checks the config's section `data` as far as it tells alone, before anything is read.

    Args:
      targets: images of a set that are drawn apart from its context, as the objective asks for.

    Raises:
      DataError: names the key, its value and what would do.
    """
    check_choice("data.source", config.source, SOURCES)
    check_choice("data.split", config.split, SCHEMES)
    check_choice("data.resize", config.resize, RESIZES)
    check_resize(config.resize, config.source, config.image_size)
    _scheme(config, config.source, transfer=False)
    SetSpec.from_config(config, targets)
    _check_groups(config, SOURCES[config.source].groups)


def load_dataset(config: Any, split: str, source: str | None = None) -> Dataset:
    """Loads one split.

    Args:
      config: the config's section `data`.
      split: `train`, `heldout` (images of training classes kept out of training), `val` or `test`.
      source: another source than ``config.source``, for transfer; `data.split` applies where that source knows
        it, else the source's own scheme (MNIST: all ten classes are test; recorded in ``info["scheme"]``), and `box`
        instead of `gmn` where that cannot be (``info["resize"]``).

    Raises:
      DataError: what is the user's to fix.
    """
    transfer = source is not None and source != config.source
    source = source or config.source
    check_choice("split", split, SPLITS)
    check_choice("data.source", source, SOURCES)
    check_choice("data.split", config.split, SCHEMES)
    check_choice("data.resize", config.resize, RESIZES)
    config = copy.deepcopy(config)
    config.resize = resize_for(config.resize, source, transfer)
    check_resize(config.resize, source, config.image_size)
    set_size_range(config.set_size)
    if split == "train":
        _check_groups(config, SOURCES[source].groups)
    scheme = _scheme(config, source, transfer)
    stream = getattr(config, "stream", False) and not (transfer and SOURCES[source].open is None)
    if SOURCES[source].by_part and not stream:
        table = load_table(config, source, part=("train", "val", "test").index(_classes_of(split)))
        rows = np.full(len(table.label), True)
    else:
        table = load_streamed_table(config, source) if stream else load_table(config, source)
        rows = _rows(table, config, source, split, scheme)
    dataset = _select(table, rows)
    if split in ("train", "heldout"):
        dataset = _hold_out(dataset, config.heldout, split)
    dataset.info = _info(config, dataset, source, split, scheme, table.info)
    if num_styles := getattr(config, "styles", 0):
        styles.check_grey(dataset.images[: styles.LOOK], source)
        dataset.style = styles.assign(len(dataset.images), num_styles)
        dataset.info["styles"] = num_styles
    if split == "train":
        _check_sizes(dataset, config)
    return dataset


def _scheme(config: Any, source: str, transfer: bool) -> str:
    """The scheme of classes that applies to ``source``."""
    schemes = SOURCES[source].schemes
    scheme = schemes[0] if transfer and config.split not in schemes else config.split
    if transfer and source == "mnist":
        scheme = "back_eval"
    if scheme not in schemes:
        raise DataError(f"data.split={scheme!r} is not defined for source {source!r}: use {' or '.join(schemes)}.")
    return scheme


def _classes_of(split: str) -> str:
    return "train" if split == "heldout" else split


def _rows(table: Table, config: Any, source: str, split: str, scheme: str) -> np.ndarray:
    """Which entries of ``table`` are of the split, bool."""
    classes = split_classes(source, scheme, table.label, table.group, table.part, config.seed)
    of_split = classes[_classes_of(split)]
    if len(of_split) == 0:
        raise DataError(f"Source {source!r} has no {split} classes under data.split={scheme!r}: use data.split=random.")
    rows = np.isin(table.label, of_split)
    if source == "mnist" and scheme != "random" and (table.part[rows] == 2).any():
        rows &= table.part == 2
    return rows


def image_shape(config: Any) -> tuple[int, int, int]:
    """``(H, W, C)`` of every source's images, from the config's section `data` alone."""
    return config.image_size, config.image_size, config.channels


def _select(table: Table, rows: np.ndarray) -> Dataset:
    """The classes ``rows`` (bool) of ``table``; entries of one label become one class."""
    start, size = table.start[rows], table.size[rows]
    index = np.concatenate([np.arange(a, a + n) for a, n in zip(start, size, strict=True)])
    label, first = np.unique(table.label[rows], return_index=True)
    size = np.add.reduceat(size, first).astype(np.int32)
    return Dataset(
        images=table.images if len(index) == len(table.images) else subset(table.images, index),
        start=(np.cumsum(size) - size).astype(np.int32),
        size=size,
        label=label.astype(np.int32),
        group=table.group[rows][first],
        info={},
    )


def _hold_out(dataset: Dataset, heldout: int, split: str) -> Dataset:
    """The last ``heldout`` images of every class (`heldout`), or all others (`train`)."""
    if heldout == 0:
        if split == "heldout":
            raise DataError("No images are held out: set data.heldout to their number per training class.")
        return dataset
    if not 0 < heldout < dataset.size.min():
        raise DataError(f"data.heldout={heldout} must be below {dataset.size.min()}, the smallest class's images.")
    place = np.arange(len(dataset.images)) - np.repeat(dataset.start, dataset.size)
    last = place >= np.repeat(dataset.size - heldout, dataset.size)
    size = np.full_like(dataset.size, heldout) if split == "heldout" else dataset.size - heldout
    return dataclasses.replace(
        dataset,
        images=subset(dataset.images, last if split == "heldout" else ~last),
        start=(np.cumsum(size) - size).astype(np.int32),
        size=size.astype(np.int32),
    )


def _check_sizes(dataset: Dataset, config: Any) -> None:
    """No |D| may be larger than what it is drawn from, in the training data."""
    low, high = set_size_range(config.set_size)
    smallest, largest = int(dataset.size.min()), int(dataset.size.max())
    if high > largest:
        raise DataError(f"data.set_size={config.set_size}: sets of {high} images, but the largest class has {largest}.")
    if low > smallest:
        fewer = int((dataset.size < low).sum())
        raise DataError(
            f"data.set_size={config.set_size}: {fewer} of {dataset.num_classes} training classes have fewer than {low} "
            f"images, the smallest class {smallest}: use data.set_size={smallest} or less, a range such as "
            f"data.set_size=({smallest}, {high}), or leave the small classes out."
        )
    group_size, style_size = getattr(config, "group_size", 0), getattr(config, "style_size", 0)
    if group_size:
        _check_groups(config, len(np.unique(dataset.group)) > 1)
        sizes = np.bincount(np.unique(dataset.group, return_inverse=True)[1], dataset.size)
        _check_size("group_size", group_size, sizes, "group")
    if style_size:
        _check_size("style_size", style_size, np.bincount(dataset.style, minlength=config.styles), "style")


def _check_size(key: str, size: int, sizes: np.ndarray, what: str) -> None:
    if size > sizes.min():
        raise DataError(
            f"data.{key}={size}: the smallest {what} of the training data has {int(sizes.min())} images: use "
            f"data.{key} of at most that."
        )


def _check_groups(config: Any, has_groups: bool | None) -> None:
    """``has_groups`` None: not known before the images are read."""
    size = getattr(config, "group_size", 0)
    if size < 0:
        raise DataError(f"data.group_size={size}: it is a number of images of the class's group, 0 for none.")
    if size and has_groups is False:
        raise DataError(
            f"data.group_size={size} needs classes of several groups, and the training classes of {config.source!r} "
            "are of one group, or their groups are not known: use omniglot (alphabets) or npz with `groups`, or "
            "data.group_size=0 and a model without a group level."
        )


def _info(config: Any, dataset: Dataset, source: str, split: str, scheme: str, raw: dict[str, Any]) -> dict[str, Any]:
    raw = dict(raw)
    names = raw.pop("class_names", None)
    info = dict(
        source=source,
        split=split,
        scheme=scheme,
        resize="drawn" if source in ("strokes", "one_dim") else config.resize,
        image_size=config.image_size,
        channels=config.channels,
        num_classes=dataset.num_classes,
        num_images=len(dataset.images),
        sha256=_sha256(dataset, source, config),
        **raw,
    )
    if names is not None:
        info["class_names"] = [names[label] for label in dataset.label]
    return info


def _sha256(dataset: Dataset, source: str, config: Any) -> str:
    """Of the images' bytes; of streamed ones, of what names them: the raw data's version and their places there."""
    if not isinstance(dataset.images, StreamedImages):
        return hashlib.sha256(np.ascontiguousarray(dataset.images)).hexdigest()
    names = source, SOURCES[source].fingerprint(config), config.resize, dataset.images.shape
    return hashlib.sha256(repr(names).encode() + dataset.images.raw.positions.tobytes()).hexdigest()
