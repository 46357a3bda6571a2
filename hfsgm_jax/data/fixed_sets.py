"""Sets for evaluation: the same ones each time."""

import numpy as np

from hfsgm_jax.data.dataset import Dataset
from hfsgm_jax.data.errors import DataError, check_choice
from hfsgm_jax.data.sets import BINARIZE, Batch, set_size_range


def fixed_sets(
    dataset: Dataset, set_size: int | tuple[int, int], max_sets: int, seed: int, binarize: str = "dynamic"
) -> Batch:
    """Evaluation sets as numpy arrays ``[sets, N, ...]``, a function of the data set and the seed.

    The images of a class are permuted and cut into consecutive sets (a class with fewer images than a set gives
    one set of all of them, the other slots masked); the classes, shuffled, give their first set each, then their
    second, and so on until ``max_sets`` (0: all there are). An image's binarisation does not depend on the set
    size nor on its set.

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
    images = _pixels(dataset.images, index, seed, binarize)
    images[~mask] = 0
    return Batch(
        images=images,
        mask=mask,
        label=dataset.label[classes],
        group=dataset.group[classes],
        class_size=dataset.size[classes].astype(np.float32),
        member=members,
    )


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


def _pixels(images: np.ndarray, index: np.ndarray, seed: int, binarize: str) -> np.ndarray:
    """Images ``[sets, N, H, W, C]`` float32 in [0, 1]."""
    chosen = images[index]
    if binarize == "none":
        return chosen.astype(np.float32) / 255 if images.dtype == np.uint8 else chosen.astype(np.float32)
    if images.dtype != np.uint8:
        raise DataError(f"data.binarize='dynamic' needs 8-bit images, these are {images.dtype}: use 'none'.")
    # Uniform over 0..254: a pixel of value v is 1 with probability v / 255 exactly.
    threshold = np.random.default_rng([seed, 1]).integers(0, 255, images.shape, np.uint8)
    return (chosen > threshold[index]).astype(np.float32)
