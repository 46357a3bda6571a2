"""Recognition, diversity and copying of samples, in comparison with real images.

Likelihood alone does not tell (Boutin et al. 2022, "Diversity vs. Recognizability"). Samples are held against the
class's real images beside its context, which have not been shown to the model.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from scipy import ndimage, stats
from scipy.spatial.distance import cdist, pdist
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from hfsgm_jax.evaluation.records import measured

GRID = 7  # places per side at which directions of edges are summed up
DIRECTIONS = 8
SHRINKAGE = 0.5  # of the classifier's covariance; 0.3 to 0.8 differ by a percent on Omniglot
CLASSIFIER, SPACE = "LDA of oriented gradients", "oriented gradients"
CLOSE = 0.05  # share of real images that are as close to their context


def features(images: np.ndarray) -> np.ndarray:
    """Histograms of oriented gradients: strength of edges by direction and place.

    Small shifts and noise of single pixels change them little. Their length is 1, so that contrast does not
    matter and distances lie between 0 and sqrt(2).

    Args:
      images: ``[..., H, W, C]`` in [0, 1].

    Returns:
      ``[..., C * GRID * GRID * DIRECTIONS]`` float32.
    """
    *lead, height, width, channels = images.shape
    flat = np.moveaxis(np.asarray(images, np.float32).reshape(-1, height, width, channels), -1, 1)
    unit = height / 28  # the scales below are pixels of a 28-pixel image
    smooth = ndimage.gaussian_filter(flat, 0.7 * unit, axes=(2, 3), mode="nearest")
    dy, dx = np.gradient(smooth, axis=(2, 3))
    strength, angle = np.hypot(dx, dy), np.arctan2(dy, dx) * DIRECTIONS / (2 * np.pi)
    at = [((np.arange(GRID) + 0.5) * side / GRID).astype(int) for side in (height, width)]
    parts = []
    for direction in range(DIRECTIONS):
        away = np.abs((angle - direction + DIRECTIONS / 2) % DIRECTIONS - DIRECTIONS / 2)
        edges = strength * np.maximum(0, 1 - away)  # shared by the two nearest directions
        blurred = ndimage.gaussian_filter(edges, 3 * unit, axes=(2, 3), mode="constant")
        parts.append(blurred[:, :, at[0][:, None], at[1]])
    return _unit(np.stack(parts, -1).reshape(*lead, -1))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)


def _means(rows: Iterable[np.ndarray]) -> np.ndarray:
    return np.array([x.mean() for x in rows])


def recogniser(examples: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A classifier of `features`: ``[..., F] ->`` log-probabilities up to a constant per image ``[..., classes]``.

    A linear discriminant: the class of the nearest mean in a metric that discounts what varies within
    classes, which all classes teach together. It takes square roots of the histograms, which name Omniglot
    better (95 % against 91 % of 20), though noise disturbs them more. All classes are equally likely beforehand.

    Args:
      examples: ``[n, F]``, more than there are classes.
      labels: ``[n]`` integers 0 ... classes - 1, all of them.
    """
    classes = int(labels.max()) + 1
    priors = np.full(classes, 1 / classes)
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=SHRINKAGE, priors=priors)
    model.fit(_unit(np.sqrt(examples)), labels)

    def scores(images):
        found = model.decision_function(_unit(np.sqrt(images)).reshape(-1, images.shape[-1]))
        found = np.stack([0 * found, found], -1) if classes == 2 else found  # scikit-learn gives the difference only
        return found.reshape(*images.shape[:-1], classes)

    return scores


def chance_of_right(scores: np.ndarray, label: np.ndarray, ways: int) -> np.ndarray:
    """Probability that an image is named rightly among its class and ``ways - 1`` others at random.

    The mean over all choices of the others, not over some of them: none of those that score higher
    than the true class may be among them.

    Args:
      scores: ``[..., classes]``.
      label: the class of each image; broadcasts to the leading axes.
      ways: at most the number of classes.
    """
    label = np.broadcast_to(label, scores.shape[:-1])
    own = np.take_along_axis(scores, label[..., None], -1)
    better = (scores >= own).sum(-1) - 1
    return stats.hypergeom.pmf(0, scores.shape[-1] - 1, better, ways - 1)


class Judge:
    """Comparison of samples with real images of the same classes."""

    def __init__(self, images: np.ndarray, mask: np.ndarray, set_size: int, ways: int):
        """
        Args:
          images: ``[B, N, H, W, C]`` in [0, 1], a class per row, two at least; the first ``set_size`` are its context.
          mask: ``[B, N]`` bool, which of them there are: two at least beside the context (`judged`).
          set_size: images of the context.
          ways: classes an image is named among, at most B.
        """
        described = features(images)
        self._contexts = [x[:set_size][m[:set_size]] for x, m in zip(described, mask, strict=True)]
        others = [x[set_size:][m[set_size:]] for x, m in zip(described, mask, strict=True)]
        labels = np.repeat(np.arange(len(others)), [len(x) for x in others])
        self._scores, self._ways = recogniser(np.concatenate(others), labels), ways
        self._real = self._recognised(self._contexts)
        apart = self._to_context(others)
        self._spread, self._apart = _means(map(pdist, others)), _means(apart)
        self._close = np.quantile(np.concatenate([x / x.mean() for x in apart]), CLOSE)

    def _recognised(self, described: Any) -> np.ndarray:
        """``[B]``, of rows of features."""
        return _means(chance_of_right(x, row, self._ways) for row, x in enumerate(map(self._scores, described)))

    def _to_context(self, described: Any) -> list[np.ndarray]:
        """Distance of every image of a row to the nearest of the row's context."""
        return [cdist(x, context).min(1) for x, context in zip(described, self._contexts, strict=True)]

    def measure(self, draws: np.ndarray) -> dict[str, dict[str, Any]]:
        """Name -> measured fields, of samples ``[B, M, H, W, C]`` in [0, 1] of the same classes.

        * recognised: probability that a classifier, which has learned from the class's other images,
          names a sample rightly among ``ways`` classes; ``real_images``: the same of the contexts.
        * diversity: mean distance of two samples of a class, over that of two other images.
        * copying: mean distance of a sample to the nearest image of its context, over that of another
          image of the class. 1 is as far as real images; ``close``: the share of samples that are
          nearer than all but `CLOSE` of the real images. Copies are near 0.
        """
        described = features(draws)
        right, apart = self._recognised(described), self._to_context(described)
        close = np.concatenate([x / real < self._close for x, real in zip(apart, self._apart, strict=True)])
        real = {"real_images": float(self._real.mean()), "chance": 1 / self._ways}
        out = {"recognised": measured(right, unit="fraction", parts=real)}
        if draws.shape[1] > 1:
            out["diversity"] = measured(_means(map(pdist, described)), self._spread, unit="of real images")
        copies = {"close": float(close.mean()), "close_real_images": CLOSE}
        return out | {"copying": measured(_means(apart), self._apart, unit="of real images", parts=copies)}


def judged(mask: np.ndarray, set_size: int) -> np.ndarray:
    """Indices of the rows of ``mask`` ``[B, N]`` that samples can be compared with: two images beside the context."""
    return np.flatnonzero(mask[:, set_size:].sum(1) >= 2)
