"""Lake's one-shot classification: 20 runs of 20 ways within one alphabet (Lake, Salakhutdinov, Tenenbaum, 2015)."""

import functools
import hashlib
import json
from importlib import resources

import numpy as np

from hfsgm_jax.data.dataset import Dataset
from hfsgm_jax.data.errors import DataError, check_choice
from hfsgm_jax.data.fixed_sets import pixels_of
from hfsgm_jax.data.sets import BINARIZE

FILE = "lake_runs.json"  # written by scripts/lake_runs.py
SIDES = ("support", "query")
_HASHED = 28  # pixels, the size at which the images are known


def lake_runs(dataset: Dataset, seed: int = 0, binarize: str = "dynamic") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The runs, with the images of ``dataset``.

    Args:
      dataset: a split of omniglot with all images of the evaluation characters (`back_eval`, `alphabet`: `test`).
      seed, binarize: of grey images, as in `fixed_sets`: an image has the same pixels in both.

    Returns:
      support ``[20 runs, 20, H, W, C]`` float32 in [0, 1], one image of each class; query, likewise; answer
      ``[20, 20]`` int64, the class (0..19) of each query image.

    Raises:
      DataError: a character is not in ``dataset``, not with all its images, or the images are not the known ones
        (checked at 28 pixels).
    """
    check_choice("data.binarize", binarize, BINARIZE)
    index = run_places(dataset)
    runs = _load()
    expected = runs["sha256"].get(dataset.info["resize"]) if dataset.info["image_size"] == _HASHED else None
    if expected is not None and expected != digests(dataset.images, index):
        raise DataError(
            "The images of the within-alphabet runs are not those they were recorded with: omniglot 3.0.0 of tfds in "
            "another order, or altered. Remove its cache file, and prepare it anew."
        )
    images = (pixels_of(dataset, index[side], seed, binarize) for side in SIDES)
    return (*images, np.array(runs["answer"]))


def run_places(dataset: Dataset) -> dict[str, np.ndarray]:
    """Where the images of each side are in ``dataset.images``, ``[20 runs, 20]``; no image is looked at.

    Raises:
      DataError: they are not all there; says why.
    """
    if dataset.info.get("source") != "omniglot":
        raise DataError(f"The within-alphabet runs are of omniglot, not of {dataset.info.get('source')!r}.")
    return {side: places(dataset, _load(), side) for side in SIDES}


def digests(images: np.ndarray, index: dict[str, np.ndarray]) -> dict[str, list[str]]:
    """For each side, the start of the hash of each run's images, of one channel, at ``index[side]`` ``[runs, 20]``."""

    def digest(run: np.ndarray) -> str:
        return hashlib.sha256(np.ascontiguousarray(images[run][..., :1])).hexdigest()[:12]

    return {side: [digest(run) for run in index[side]] for side in SIDES}


def places(dataset: Dataset, runs: dict, side: str) -> np.ndarray:
    """Where the images of a side are in ``dataset.images``, ``[runs, 20]``; ``runs``: the content of `FILE`."""
    label, member = np.array(runs[f"{side}_label"]), np.array(runs[f"{side}_member"])
    absent = np.setdiff1d(label, dataset.label)
    if len(absent):
        raise DataError(
            f"{len(absent)} of the characters of the within-alphabet runs are not in split {dataset.info['split']!r} "
            f"of data.split={dataset.info['scheme']!r}: use split 'test' of 'back_eval'."
        )
    entry = np.searchsorted(dataset.label, label)
    if (dataset.size[entry] != runs["images_per_class"]).any():
        raise DataError(
            f"The within-alphabet runs need all {runs['images_per_class']} images of a character, there are "
            f"{dataset.size[entry].min()}: set data.heldout=0."
        )
    return dataset.start[entry] + member


@functools.cache
def _load() -> dict:
    return json.loads(resources.files("hfsgm_jax.data").joinpath(FILE).read_text())
