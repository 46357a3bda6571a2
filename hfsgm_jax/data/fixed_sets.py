"""Fixed data of evaluations: sets, Lake's runs, and the model of independent pixels."""

import json
from importlib import resources

import jax
import numpy as np

from hfsgm_jax.data import styles
from hfsgm_jax.data.dataset import Dataset, StreamedImages
from hfsgm_jax.data.sets import SetSpec, draw_sets, finish_sets, set_size_range
from hfsgm_jax.errors import DataError
from hfsgm_jax.trace import GROUP, SET, STYLE, Sets

_CHUNK = 4096  # images at once


def fixed_sets(
    dataset: Dataset, set_size: int | tuple[int, int], max_sets: int, seed: int, binarize: str = "dynamic"
) -> Sets:
    """Evaluation sets of host arrays, a function of the data set and the seed; every image is context and target.

    The images of a class are permuted and cut into consecutive sets (a class with fewer images than a set gives
    one set of all of them, the other slots absent); the classes, shuffled, give their first set each, then their
    second, and so on until ``max_sets`` (0: all there are). An image's binarisation does not depend on the set
    size nor on its set. Where images have styles, a set is drawn in one, that of its first image: all its images then
    share the latents of every plate, and its bound is one on log p of the set.

    Args:
      set_size: images per set; of a pair, the upper end.
      binarize: "none", or "dynamic": drawn once, by ``seed``.

    Raises:
      DataError: every class is smaller than a set.
    """
    set_size = set_size_range(set_size)[1]
    if set_size > dataset.size.max():
        raise DataError(f"sets of {set_size} images: the largest class of these data has {dataset.size.max()}.")
    classes, members = _cut(dataset.size, set_size, max_sets, seed)
    mask = members >= 0
    index = dataset.start[classes][:, None] + np.where(mask, members, 0)
    ids = {SET: dataset.label[classes], GROUP: dataset.group[classes]}
    sizes = {SET: dataset.size[classes]}
    groups, group = np.unique(dataset.group, return_inverse=True)
    if len(groups) > 1:
        sizes[GROUP] = np.bincount(group, dataset.size)[group[classes]]
    style = None
    if dataset.style is not None:
        style = np.broadcast_to(dataset.style[index[:, :1]], index.shape)
        ids[STYLE], sizes[STYLE] = style[:, 0], np.bincount(dataset.style)[style[:, 0]]
    images = np.array(pixels_of(dataset, index, seed, binarize, style))
    images[~mask] = 0
    sizes = {plate: size.astype(np.float32) for plate, size in sizes.items()}
    return jax.tree.map(np.asarray, Sets.of(images, mask).replace(sizes=sizes, ids=ids, member=members))


def drawn_sets(dataset: Dataset, spec: SetSpec, seed: int) -> Sets:
    """Sets as training draws them, contexts and targets apart, as host arrays ``[spec.rows, N, ...]``.

    Args:
      spec: the rows, what is drawn for each, and how it is changed.
      seed: of the only draw.
    """
    key = jax.random.key(seed)
    sets = jax.device_get(jax.jit(draw_sets, static_argnums=2)(dataset.table(images=False), key, spec))
    sets = sets.replace(images=dataset.images[sets.images])
    return jax.device_get(jax.jit(finish_sets, static_argnums=2)(sets, key, spec))


def pixels_of(
    dataset: Dataset, index: np.ndarray, seed: int, binarize: str, style: np.ndarray | None = None
) -> np.ndarray:
    """The images at ``index``, ``[*index.shape, H, W, C]`` float32 in [0, 1], binarised as `fixed_sets` says.

    Where images have styles, they are drawn in their own, or in ``style``, of the shape of ``index``.
    """
    images = dataset.images[index]
    if binarize == "dynamic":
        if images.dtype != np.uint8:
            raise DataError(f"data.binarize='dynamic' needs 8-bit images, these are {images.dtype}: use 'none'.")
        images = (images > _threshold(dataset.images, index, seed)).astype(np.float32)
    else:
        images = images.astype(np.float32) / (255 if images.dtype == np.uint8 else 1)
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
    cuts = [(c, number) for number in range(rounds.max()) for c in shuffled if number < rounds[c]]
    cuts = cuts[:max_sets] if max_sets else cuts
    members = np.full((len(cuts), set_size), -1, np.int32)
    for row, (c, number) in enumerate(cuts):
        chosen = permuted[c][number * set_size : (number + 1) * set_size]
        members[row, : len(chosen)] = chosen
    return np.array([c for c, _ in cuts]), members


def _threshold(images: np.ndarray | StreamedImages, index: np.ndarray, seed: int) -> np.ndarray:
    """Uniform over 0..254: a pixel of value v is 1 with probability v / 255 exactly. A function of image and seed."""
    if not isinstance(images, StreamedImages):
        return np.random.default_rng([seed, 1]).integers(0, 255, images.shape, np.uint8)[index]
    # Streamed data are too large for thresholds of all of them: each image has its own generator.
    shape = images.shape[1:]
    draws = [np.random.default_rng([seed, 1, i]).integers(0, 255, shape, np.uint8) for i in index.ravel()]
    return np.stack(draws).reshape(*index.shape, *shape)


# --- one-shot runs, and a baseline ------------------------------------------------------------


def lake_runs(dataset: Dataset, seed: int = 0, binarize: str = "dynamic") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lake's one-shot classification, 20 runs of 20 ways within one alphabet (Lake, Salakhutdinov, Tenenbaum, 2015).

    Args:
      dataset: a split of omniglot with all images of the evaluation characters (`back_eval`, `alphabet`: `test`).
      seed, binarize: of grey images, as in `fixed_sets`: an image has the same pixels in both.

    Returns:
      support ``[20 runs, 20, H, W, C]`` float32 in [0, 1], one image of each class; query, likewise; label
      ``[20, 20]`` int64, the class (0..19) of each query image.

    Raises:
      DataError: a character is not in ``dataset``.
    """
    # Of every image of the runs of github.com/brendenlake/omniglot: its label in tfds's Omniglot, and which member of
    # that class has the same pixels.
    runs = json.loads(resources.files("hfsgm_jax.data").joinpath("lake_runs.json").read_text())
    label = {side: np.array(runs[f"{side}_label"]) for side in ("support", "query")}
    support, query = (pixels_of(dataset, _index(dataset, label[side], runs, side), seed, binarize) for side in label)
    return support, query, (label["query"][:, :, None] == label["support"][:, None]).argmax(-1)


def _index(dataset: Dataset, label: np.ndarray, runs: dict, side: str) -> np.ndarray:
    """Index of the images of a side in ``dataset.images``, ``[20 runs, 20]``."""
    if dataset.info.get("source") != "omniglot" or not np.isin(label, dataset.label).all():
        given = " of ".join(repr(dataset.info.get(key)) for key in ("split", "scheme", "source"))
        raise DataError(f"{given} lacks characters of Lake's runs: use 'test' of 'back_eval' of 'omniglot'.")
    return dataset.start[np.searchsorted(dataset.label, label)] + np.array(runs[f"{side}_member"])


def independent_pixel_nll(train: Dataset, test_images: np.ndarray) -> float:
    """NLL of the model that draws each pixel by itself, with its mean over the training images.

    Args:
      train: its images, uint8 0..255.
      test_images: ``[..., H, W, C]`` in [0, 1]; grey levels count as probabilities.

    Returns:
      Nats per image.
    """
    parts = (train.images[start : start + _CHUNK] for start in range(0, len(train.images), _CHUNK))
    ones = sum(part.sum(0, dtype=np.float64) for part in parts) / 255
    probability = (ones + 0.5) / (len(train.images) + 1)
    mean = test_images.reshape(-1, *train.image_shape).mean(0, dtype=np.float64)
    return float(-(mean * np.log(probability) + (1 - mean) * np.log1p(-probability)).sum())
