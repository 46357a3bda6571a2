"""Are samples of the class they were conditioned on? A nearest-class-mean classifier names them."""

from typing import Any

import numpy as np

from hfsgm_jax.evaluation.records import Record

WAYS = 20  # classes to choose from


def class_means(dataset: Any, classes: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Mean image in [0, 1] of each class over the images that are not in its context.

    Args:
      dataset: images grouped by class, ``start`` and ``size`` of each.
      classes: ``[B]`` index of the class of each row.
      members: ``[B, N]`` the images of the context, -1 for padding.

    Returns:
      ``[B, H, W, C]``.
    """
    means = []
    for index, taken in zip(classes, members):
        others = np.setdiff1d(np.arange(dataset.size[index]), taken)
        images = dataset.images[dataset.start[index] + others]
        means.append(images.mean(0) / (255 if images.dtype == np.uint8 else 1))
    return np.stack(means)


def nearest(images: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Index of the nearest mean (Euclidean) for images ``[B, M, H, W, C]``: ``[B, M]``."""
    rows, flat = images.reshape(*images.shape[:2], -1), means.reshape(len(means), -1)
    return ((rows[:, :, None] - flat) ** 2).sum(-1).argmin(-1)


def recognised(dataset: Any, batch: Any, draws: np.ndarray) -> Record | None:
    """Share of samples whose nearest class mean is that of the class they were conditioned on.

    Args:
      dataset: of the contexts.
      batch: the contexts (`data.fixed_sets`), a class per row.
      draws: ``[B, M, H, W, C]`` samples of each row's class.

    Returns:
      ``value`` with ``real_images``, the share of the context images themselves (which the means
      have not seen); None where classes have no image beside their context, or there is one class.
    """
    rows = len(draws)
    classes = np.searchsorted(dataset.label, batch.label[:rows])
    spare = dataset.size[classes] - batch.mask[:rows].sum(1)
    if rows < 2 or len(set(classes)) < rows or spare.min() < 1:
        return None
    means, truth = class_means(dataset, classes, batch.member[:rows]), np.arange(rows)[:, None]
    hits = nearest(np.asarray(draws), means) == truth
    mask = batch.mask[:rows]
    real = (nearest(batch.images[:rows], means) == truth)[mask].mean()
    error = hits.mean(1).std(ddof=1) / np.sqrt(rows)
    return {
        "value": float(hits.mean()),
        "standard_error": float(error),
        "unit": "fraction",
        "classifier": "nearest class mean",
        "ways": rows,
        "samples_per_class": draws.shape[1],
        "parts": {"real_images": float(real), "chance": 1 / rows},
    }
