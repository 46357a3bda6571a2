"""Lake's one-shot classification: 20 runs of 20 ways within one alphabet (Lake, Salakhutdinov, Tenenbaum, 2015)."""

import json
from importlib import resources

import numpy as np

from hfsgm_jax.data.dataset import Dataset
from hfsgm_jax.data.fixed_sets import pixels_of
from hfsgm_jax.errors import DataError

FILE = "lake_runs.json"  # written by scripts/lake_runs.py: label and member of every image, in tfds's Omniglot
SIDES = ("support", "query")


def lake_runs(dataset: Dataset, seed: int = 0, binarize: str = "dynamic") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The runs, with the images of ``dataset``.

    Args:
      dataset: a split of omniglot with all images of the evaluation characters (`back_eval`, `alphabet`: `test`).
      seed, binarize: of grey images, as in `fixed_sets`: an image has the same pixels in both.

    Returns:
      support ``[20 runs, 20, H, W, C]`` float32 in [0, 1], one image of each class; query, likewise; label
      ``[20, 20]`` int64, the class (0..19) of each query image.

    Raises:
      DataError: a character is not in ``dataset``, or not with all its images.
    """
    runs = json.loads(resources.files("hfsgm_jax.data").joinpath(FILE).read_text())
    label = {side: np.array(runs[f"{side}_label"]) for side in SIDES}
    support, query = (pixels_of(dataset, _index(dataset, label[side], runs, side), seed, binarize) for side in SIDES)
    return support, query, (label["query"][:, :, None] == label["support"][:, None]).argmax(-1)


def _index(dataset: Dataset, label: np.ndarray, runs: dict, side: str) -> np.ndarray:
    """Index of the images of a side in ``dataset.images``, ``[20 runs, 20]``."""
    if dataset.info.get("source") != "omniglot" or not np.isin(label, dataset.label).all():
        given = " of ".join(repr(dataset.info.get(key)) for key in ("split", "scheme", "source"))
        raise DataError(f"{given} lacks characters of Lake's runs: use 'test' of 'back_eval' of 'omniglot'.")
    entry = np.searchsorted(dataset.label, label)
    fewest, need = dataset.size[entry].min(), runs["images_per_class"]
    if fewest < need:
        raise DataError(f"Lake's runs need all {need} images of a character, not {fewest}: use data.heldout=0.")
    return dataset.start[entry] + np.array(runs[f"{side}_member"])
