"""Sets for evaluation: the same ones each time."""

import dataclasses
from typing import Any

import jax
import numpy as np

from hfsgm_jax.data import styles
from hfsgm_jax.data.dataset import Dataset
from hfsgm_jax.data.errors import DataError, check_choice
from hfsgm_jax.data.sets import BINARIZE, Batch, SetSpec, draw_sets, finish_sets, set_size_range
from hfsgm_jax.data.streamed import StreamedImages


def fixed_sets(
    dataset: Dataset, set_size: int | tuple[int, int], max_sets: int, seed: int, binarize: str = "dynamic"
) -> Batch:
    """Evaluation sets as numpy arrays ``[sets, N, ...]``, a function of the data set and the seed.

    The images of a class are permuted and cut into consecutive sets (a class with fewer images than a set gives
    one set of all of them, the other slots masked); the classes, shuffled, give their first set each, then their
    second, and so on until ``max_sets`` (0: all there are). An image's binarisation does not depend on the set
    size nor on its set. Where images have styles, a set is drawn in one, that of its first image: all its images then
    share the latents of every plate, and its bound is one on log p of the set.

    Args:
      set_size: images per set; of a pair, the upper end.
      binarize: "none", or "dynamic": drawn once, by ``seed``.

    Raises:
      DataError: every class is smaller than a set.
    """
    check_choice("data.binarize", binarize, BINARIZE)
    set_size = set_size_range(set_size)[1]
    if set_size > dataset.size.max():
        raise DataError(
            f"Sets of {set_size} images, but the largest class of split {dataset.info.get('split')!r} has "
            f"{dataset.size.max()}: use smaller sets."
        )
    classes, members = _cut(dataset.size, set_size, max_sets, seed)
    mask = members >= 0
    index = dataset.start[classes][:, None] + np.where(mask, members, 0)
    style = None if dataset.style is None else np.broadcast_to(dataset.style[index[:, :1]], index.shape)
    images = np.array(pixels_of(dataset, index, seed, binarize, style))
    images[~mask] = 0
    return Batch(
        images=images,
        mask=mask,
        label=dataset.label[classes],
        group=dataset.group[classes],
        class_size=dataset.size[classes].astype(np.float32),
        member=members,
        sizes=_sizes(dataset, classes, style),
        style=None if style is None else style[:, 0],
    )


def drawn_sets(dataset: Dataset, spec: SetSpec, seed: int) -> Batch:
    """Sets as training draws them, contexts and targets apart, as numpy arrays ``[spec.rows, N, ...]``.

    Args:
      spec: the rows, what is drawn for each, and how it is changed.
      seed: of the only draw.
    """
    key = jax.random.key(seed)
    table = dataclasses.replace(dataset, images=np.zeros((0, 1, 1, 1), np.uint8)).on_device()
    drawn = jax.device_get(jax.jit(draw_sets, static_argnums=2)(table, key, spec))
    drawn = drawn._replace(images=dataset.images[drawn.images])
    return jax.device_get(jax.jit(finish_sets, static_argnums=2)(drawn, key, spec))


def _sizes(dataset: Dataset, classes: np.ndarray, style: np.ndarray | None) -> dict[str, Any] | None:
    """Images of each set's class, group and style; None where images are grouped by class alone."""
    group, number = np.unique(dataset.group, return_inverse=True)
    if len(group) < 2 and style is None:
        return None
    sizes = {"set": dataset.size[classes]}
    if len(group) > 1:
        sizes["group"] = np.bincount(number, dataset.size)[number[classes]]
    if style is not None:
        sizes["style"] = np.bincount(dataset.style)[style[:, 0]]
    return {plate: size.astype(np.float32) for plate, size in sizes.items()}


def pixels_of(
    dataset: Dataset, index: np.ndarray, seed: int, binarize: str, style: np.ndarray | None = None
) -> np.ndarray:
    """`pixels` of a data set, in the images' own styles where they have styles (or in ``style``, as ``index``)."""
    images = pixels(dataset.images, index, seed, binarize)
    if dataset.style is None:
        return images
    style = dataset.style[index] if style is None else style
    return np.asarray(styles.render(images, style, dataset.info["styles"]))


def _cut(size: np.ndarray, set_size: int, max_sets: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Class ``[sets]`` and members ``[sets, set_size]`` (-1: none) of each set."""
    rng = np.random.default_rng([seed, 0])
    shuffled = rng.permutation(len(size))
    permuted = [rng.permutation(n).astype(np.int32) for n in size]
    rounds = np.maximum(size // set_size, 1)
    turns = [(c, turn) for turn in range(rounds.max()) for c in shuffled if turn < rounds[c]]
    turns = turns[:max_sets] if max_sets else turns
    members = np.full((len(turns), set_size), -1, np.int32)
    for row, (c, turn) in enumerate(turns):
        chosen = permuted[c][turn * set_size : (turn + 1) * set_size]
        members[row, : len(chosen)] = chosen
    return np.array([c for c, _ in turns]), members


def pixels(images: np.ndarray | StreamedImages, index: np.ndarray, seed: int, binarize: str) -> np.ndarray:
    """The images at ``index``, ``[*index.shape, H, W, C]`` float32 in [0, 1], binarised as `fixed_sets` says."""
    chosen = images[index]
    if binarize == "none":
        return chosen.astype(np.float32) / 255 if images.dtype == np.uint8 else chosen.astype(np.float32)
    if images.dtype != np.uint8:
        raise DataError(f"data.binarize='dynamic' needs 8-bit images, these are {images.dtype}: use 'none'.")
    return (chosen > _threshold(images, index, seed)).astype(np.float32)


def _threshold(images: np.ndarray | StreamedImages, index: np.ndarray, seed: int) -> np.ndarray:
    """Uniform over 0..254: a pixel of value v is 1 with probability v / 255 exactly. A function of image and seed."""
    if not isinstance(images, StreamedImages):
        return np.random.default_rng([seed, 1]).integers(0, 255, images.shape, np.uint8)[index]
    # Streamed data are too large for thresholds of all of them: each image has its own generator.
    shape = images.shape[1:]
    draws = [np.random.default_rng([seed, 1, place]).integers(0, 255, shape, np.uint8) for place in index.ravel()]
    return np.stack(draws).reshape(*index.shape, *shape)
