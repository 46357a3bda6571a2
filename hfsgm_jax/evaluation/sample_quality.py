"""Are samples of a class recognised, as diverse as real images, and no copies of the context?

Likelihood alone does not tell (Boutin et al. 2022, "Diversity vs. Recognizability"). Samples are held
against the class's real images beside its context, which have not been shown to the model.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from scipy.spatial.distance import cdist, pdist

from hfsgm_jax.evaluation import plots
from hfsgm_jax.evaluation.recognise import CLASSIFIER, Recogniser, chance_of_right, features
from hfsgm_jax.evaluation.records import Record, bootstrap_error

SPACE = "oriented gradients"
CLOSE = 0.05  # share of real images that are as close to their context


class Judge:
    """Compares samples with real images of the same classes.

    Attributes:
      rows: ``[R]`` the rows that can be judged: those with at least two images beside their context.
    """

    def __init__(self, images: np.ndarray, mask: np.ndarray, set_size: int, ways: int):
        """
        Args:
          images: ``[B, N, H, W, C]`` in [0, 1], a class per row; the first ``set_size`` are its context.
          mask: ``[B, N]`` bool, which of them there are.
          set_size: images of the context.
          ways: classes an image is named among, if there are as many.

        Raises:
          ValueError: fewer than two rows can be judged.
        """
        self.rows = np.flatnonzero(mask[:, set_size:].sum(1) >= 2)
        if len(self.rows) < 2:
            raise ValueError("fewer than two classes have two images beside their context")
        described, mask = features(images[self.rows]), mask[self.rows]
        self._contexts = [x[:set_size][m[:set_size]] for x, m in zip(described, mask, strict=True)]
        others = [x[set_size:][m[set_size:]] for x, m in zip(described, mask, strict=True)]
        labels = np.repeat(np.arange(len(others)), [len(x) for x in others])
        self._recogniser = Recogniser(np.concatenate(others), labels)
        self._ways = min(ways, len(others))
        self._real = np.array([self._rightly(x, row).mean() for row, x in enumerate(self._contexts)])
        self._spread = np.array([pdist(x).mean() for x in others])
        apart = [self._to_context(x, row) for row, x in enumerate(others)]
        self._apart = np.array([x.mean() for x in apart])
        self._close = np.quantile(np.concatenate([x / x.mean() for x in apart]), CLOSE)

    def _rightly(self, described: np.ndarray, row: int) -> np.ndarray:
        return chance_of_right(self._recogniser.scores(described), np.array(row), self._ways)

    def _to_context(self, described: np.ndarray, row: int) -> np.ndarray:
        return cdist(described, self._contexts[row]).min(1)

    def records(self, draws: np.ndarray, conditions: Mapping) -> Iterator[tuple[str, Record]]:
        """``recognised``, ``diversity`` and ``copying`` of samples.

        * recognised: probability that a classifier, which has learned from the class's other images,
          names a sample rightly among ``ways`` classes; ``real_images``: the same of the contexts.
        * diversity: mean distance of two samples of a class, over that of two other images.
        * copying: mean distance of a sample to the nearest image of its context, over that of another
          image of the class. 1 is as far as real images; ``close``: the share of samples that are
          nearer than all but `CLOSE` of the real images. Copies are near 0.

        Args:
          draws: ``[B, M, H, W, C]`` in [0, 1], of the same rows as the images.
          conditions: what goes into every record.
        """
        described = features(draws[self.rows])
        count = {"samples_per_class": draws.shape[1], **conditions}
        rightly = np.array([self._rightly(x, row).mean() for row, x in enumerate(described)])
        parts = {"real_images": float(self._real.mean()), "chance": 1 / self._ways}
        named = {"classifier": CLASSIFIER, "ways": self._ways, "classes": len(self.rows)}
        ones = np.ones(len(rightly))
        yield "recognised", {**_ratio(rightly, ones, "fraction"), "parts": parts, **named, **count}
        space = {"distance": SPACE, "classes": len(self.rows)}
        if draws.shape[1] > 1:
            spread = np.array([pdist(x).mean() for x in described])
            yield "diversity", {**_ratio(spread, self._spread, "of real images"), **space, **count}
        apart = [self._to_context(x, row) for row, x in enumerate(described)]
        close = np.concatenate([x / real < self._close for x, real in zip(apart, self._apart, strict=True)])
        mean = np.array([x.mean() for x in apart])
        parts = {"close": float(close.mean()), "close_real_images": CLOSE}
        yield "copying", {**_ratio(mean, self._apart, "of real images"), "parts": parts, **space, **count}

    def named_rightly(self, draws: np.ndarray, classes: Sequence[int]) -> np.ndarray:
        """Whether each sample is named rightly among these of `rows`: ``[len(classes), M]`` bool.

        Args:
          draws: ``[len(classes), M, H, W, C]`` in [0, 1].
          classes: indices into `rows`.
        """
        scores = self._recogniser.scores(features(draws))[..., np.asarray(classes)]
        return scores.argmax(-1) == np.arange(len(classes))[:, None]


def _ratio(totals: np.ndarray, sizes: np.ndarray, unit: str) -> Record:
    return {"value": float(totals.sum() / sizes.sum()), "unit": unit, "standard_error": bootstrap_error(totals, sizes)}


def plot(records: Sequence[tuple[str, Record]]) -> Figure:
    """Recognisability over diversity and over the distance to the context, a point per kind of sample."""
    page, axes = plots.figure(2, height=3.8, sharey=True)
    found = {(name, record["kind"]): record for name, record in records}
    labels = "diversity (1: real images)", "distance to the nearest context image (1: real images)"
    for axis, measure, label in zip(axes, ("diversity", "copying"), labels, strict=True):
        kinds = [kind for name, kind in found if name == measure]
        for kind, marker in zip(kinds, "osD", strict=False):
            over, named = found[measure, kind], found["recognised", kind]
            errors = dict(xerr=over["standard_error"], yerr=named["standard_error"])
            style = dict(marker=marker, alpha=0.8, capsize=3, label=kind.replace("_", " "))
            axis.errorbar(over["value"], named["value"], **errors, **style)
        first = next(iter(found.values()))
        axis.plot(1, first["parts"]["real_images"], "k*", markersize=12, label="real images")
        axis.axhline(first["parts"]["chance"], color="grey", linestyle=":", label="chance")
        axis.set(xlabel=label, ylim=(0, 1.04))
        axis.set_xlim(0, max(1.5, 1.05 * axis.get_xlim()[1]))
    axes[0].set_ylabel(f"recognised among {first['ways']}")
    axes[0].legend(loc="center left")
    return page
