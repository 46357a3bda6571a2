"""Images of classes in host memory, or read when they are indexed; and the arrays that sampling on a device takes."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hfsgm_jax.errors import DataError

_CHUNK, _FEW = 2000, 16  # images read at once, and to see what kind they are


@dataclasses.dataclass(frozen=True)
class StreamedImages:
    """``[n, H, W, C]`` uint8, read and resized when indexed, kept nowhere.

    The first axis takes an integer, a slice, integers of any shape or bools ``[n]``; the result is a numpy array.

    Attributes:
      read: positions ``[k]`` -> their images ``[k, H, W, C]`` uint8; called from several threads.
      position: ``[n]`` int64, of every image among all the raw ones.
      image_shape: (H, W, C).
    """

    read: Callable[[np.ndarray], np.ndarray]
    position: np.ndarray
    image_shape: tuple[int, int, int]

    dtype = np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self), *self.image_shape

    def __len__(self) -> int:
        return len(self.position)

    def __getitem__(self, index: Any) -> np.ndarray:
        position = self.position[index]
        images = self.read(position.ravel()) if position.size else np.zeros(0, self.dtype)
        return images.reshape(*position.shape, *self.image_shape)

    def to_memory(self) -> np.ndarray:
        """All of them."""
        images = np.empty(self.shape, self.dtype)
        for start in range(0, len(self), _CHUNK):
            images[start : start + _CHUNK] = self[start : start + _CHUNK]
        return images


Images = np.ndarray | StreamedImages


class Table(NamedTuple):
    """A data set on a device, the argument of `sample_sets`; see `Dataset`.

    Attributes:
      images: ``[n, H, W, C]``, or None where they are streamed.
      start, size, label, group: int32 ``[classes]``.
      member: ``arange(largest class)``, whose static size is that of the largest class.
      style: int32 ``[n]``, style of every image; None: images have no styles.
      style_order: int32 ``[n]``, indices of the images of style 0, then of style 1, ...
      style_size: int32 ``[styles]``, images of each.
    """

    images: jax.Array | None
    start: jax.Array
    size: jax.Array
    label: jax.Array
    group: jax.Array
    member: jax.Array
    style: jax.Array | None = None
    style_order: jax.Array | None = None
    style_size: jax.Array | None = None


@dataclasses.dataclass
class Dataset:
    """Images grouped by class, on the host.

    Attributes:
      images: ``[n, H, W, C]`` uint8 0..255 with ink high, float32 of single numbers ``[n, 1, 1, C]``, or
        `StreamedImages`.
      start, size: int32 ``[classes]``: index of the class's first image, number of its images.
      label, group: int32 ``[classes]``: ids, ascending, and groups (alphabets).
      part: int32 ``[classes]``: official part, 0 training, 1 validation, 2 test.
      info: facts that a result is recorded with; ``class_names`` is parallel to ``label``.
      style: int32 ``[n]``, style in which each grey image is drawn (`styles.render`), or None.
    """

    images: Images
    start: np.ndarray
    size: np.ndarray
    label: np.ndarray
    group: np.ndarray
    part: np.ndarray
    info: dict[str, Any] = dataclasses.field(default_factory=dict)
    style: np.ndarray | None = None

    @classmethod
    def from_arrays(
        cls, images: Any, labels: Any, groups: Any = None, parts: Any = None, info: dict[str, Any] | None = None
    ) -> "Dataset":
        """The data set of a user's own arrays, in any order.

        Args:
          images: ``[n, H, W]`` or ``[n, H, W, C]``: bool, integers (0..255, or 0 and 1) or floats in [0, 1], ink or
            foreground high; floats of single pixels are left as they are, any range. ``labels`` may have more axes than
            one, which ``images`` then has too.
          labels: ``[n]`` integers or strings; classes are numbered in their order, and named in
            ``info["class_names"]``.
          groups: ``[n]`` integers or strings, the group (alphabet) of each image's class.
          parts: ``[n]`` 0 training, 1 validation, 2 test; a class is of one part.
          info: more facts to record with results, JSON types.

        Raises:
          DataError: there are no images, shapes do not fit, or values are out of range.
        """
        labels = np.asarray(labels)
        images = images if isinstance(images, StreamedImages) else _pixels(np.asarray(images), labels.shape)
        names, ids = np.unique(labels.ravel(), return_inverse=True)
        groups, parts = (np.zeros(labels.shape, int) if x is None else np.asarray(x) for x in (groups, parts))
        if not labels.shape == groups.shape == parts.shape or not np.isin(parts, (0, 1, 2)).all():
            raise DataError("groups and parts are one for every image; parts are 0 (training), 1 (validation) or 2.")
        info = {**(info or {}), "class_names": [str(name) for name in names]}
        return group_by_class(images, ids, np.unique(groups.ravel(), return_inverse=True)[1], parts.ravel(), info)

    @property
    def num_classes(self) -> int:
        return len(self.label)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return tuple(self.images.shape[1:])

    @functools.cached_property
    def binary(self) -> bool:
        """True where every pixel is 0 or 255; of streamed images the first ones are looked at."""
        images = self.images[:_FEW] if isinstance(self.images, StreamedImages) else self.images
        return images.dtype == np.uint8 and not ((images != 0) & (images != 255)).any()

    def table(self, images: bool = True) -> Table:
        """The arrays that `sample_sets` takes, an argument of the jitted step; streamed images stay where they are."""
        held = images and not isinstance(self.images, StreamedImages)
        columns = self.start, self.size, self.label, self.group, np.arange(self.size.max(), dtype=np.int32)
        if self.style is not None:
            order = np.argsort(self.style, kind="stable").astype(np.int32)
            sizes = np.bincount(self.style, minlength=self.info["styles"]).astype(np.int32)
            columns += self.style, order, sizes
        return Table(jnp.asarray(self.images) if held else None, *map(jnp.asarray, columns))

    def select(self, classes: np.ndarray) -> "Dataset":
        """Some classes: indices, or bool ``[classes]``."""
        return self._cut(classes, self.start[classes], self.size[classes])

    def hold_out(self, num: int) -> tuple["Dataset", "Dataset"]:
        """All but the last ``num`` images of every class, and these."""
        if num >= self.size.min():
            raise DataError(f"data.heldout={num} must be below {self.size.min()}, the smallest class's images.")
        every, rest = slice(None), self.size - num
        return self._cut(every, self.start, rest), self._cut(every, self.start + rest, np.full_like(rest, num))

    def _cut(self, classes: np.ndarray | slice, first: np.ndarray, size: np.ndarray) -> "Dataset":
        """Of every one of the classes, the ``size`` images from index ``first`` on."""
        start = (np.cumsum(size) - size).astype(np.int32)
        index = np.repeat(first - start, size) + np.arange(size.sum())
        names = self.info.get("class_names")
        named = {} if names is None else {"class_names": np.array(names, object)[classes].tolist()}
        style = None if self.style is None else self.style[index]
        ids = self.label[classes], self.group[classes], self.part[classes]
        size = size.astype(np.int32)
        return Dataset(take_images(self.images, index), start, size, *ids, self.info | named, style)


def check_levels(dataset: Dataset, levels: int, binarize: str) -> None:
    """Raises a DataError where grey pixels would meet a likelihood of ``levels`` 2."""
    if levels == 2 and binarize == "none" and not dataset.binary:
        raise DataError("the likelihood is of binary pixels, and these are grey: train with data.binarize='dynamic'")


def image_shape(config: Any) -> tuple[int, int, int]:
    """``(H, W, C)`` of every source's images, from the config's section `data` alone."""
    return config.image_size, config.image_size, config.channels


def group_by_class(
    images: Images, ids: np.ndarray, groups: np.ndarray, parts: np.ndarray, info: dict[str, Any]
) -> Dataset:
    """The data set of images with class ids ``[n]``, which are kept; within a class the order stays."""
    order = np.argsort(ids, kind="stable")
    label, start, size = np.unique(ids[order], return_index=True, return_counts=True)
    for name, column in (("groups", groups), ("parts", parts)):
        mixed = np.flatnonzero(column[order] != np.repeat(column[order][start], size))
        if len(mixed):
            raise DataError(f"class {ids[order][mixed[0]]} has images of several {name}: a class is of one.")
    columns = start, size, label, groups[order][start], parts[order][start]
    return Dataset(take_images(images, order), *(column.astype(np.int32) for column in columns), info=info)


def take_images(images: Images, index: np.ndarray) -> Images:
    """``images[index]``, without reading what is streamed or copying where that is all of them."""
    if isinstance(images, StreamedImages):
        return dataclasses.replace(images, position=images.position[index])
    return images if np.array_equal(index, np.arange(len(images))) else images[index]


def _pixels(images: np.ndarray, lead: tuple[int, ...]) -> np.ndarray:
    """``[n, H, W, C]`` uint8 0..255 of ``[*lead, H, W]`` or ``[*lead, H, W, C]``; single floats stay float32."""
    if images.size == 0:
        raise DataError("there are no images.")
    if images.shape[: len(lead)] != lead or images.ndim - len(lead) not in (2, 3):
        raise DataError(f"images {images.shape} and labels {lead} do not fit: [n, H, W] or [n, H, W, C], and [n].")
    images = images.reshape(-1, *images.shape[len(lead) :], *[1] * (len(lead) + 3 - images.ndim))
    kind = images.dtype.kind
    if kind == "f" and images.shape[1:3] == (1, 1):
        return images.astype(np.float32)
    if kind not in "biuf":
        raise DataError(f"images are uint8 (0..255, or 0 and 1), or floats in [0, 1], not {images.dtype}.")
    low, high = images.min(), images.max()
    top = 1 if kind in "bf" or high == 1 else 255  # 0 and 1 alone are ink and ground, not grey levels
    if not (low >= 0 and high <= top):
        raise DataError(f"{images.dtype} images must lie in [0, {top}], they lie in [{low}, {high}].")
    return np.rint(images * np.float32(255)).astype(np.uint8) if top == 1 else images.astype(np.uint8, copy=False)
