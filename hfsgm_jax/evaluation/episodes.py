"""Few-shot episodes: classes, a few images of each, and queries to be named."""

import dataclasses
from typing import Any

import numpy as np

from hfsgm_jax.evaluation.context import EvaluationError


@dataclasses.dataclass(frozen=True)
class Episodes:
    """Episodes of one kind, on the host; E episodes of Y ways, n shots and Q queries.

    Attributes:
      dataset: where the images are from.
      support: ``[E, Y, n, H, W, C]`` float32 in [0, 1].
      query: ``[E, Q, H, W, C]``.
      answer: ``[E, Q]``, the way of each query, 0 ... Y - 1.
      classes: which classes meet in an episode; a condition of every result.
      place: ``[E, Y]``, index of each class in the data set; None where it is not known.
      conditions: more of what gives an accuracy its meaning.
    """

    dataset: Any
    support: np.ndarray
    query: np.ndarray
    answer: np.ndarray
    classes: str
    place: np.ndarray | None = None
    conditions: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def ways(self) -> int:
        return self.support.shape[1]

    @property
    def shots(self) -> int:
        return self.support.shape[2]

    @property
    def name(self) -> str:
        """Short, for progress and the names of files: other episodes, another name."""
        info = self.dataset.info
        kind = "" if self.classes.startswith("whole") else "_" + self.classes.replace(" ", "_")
        return f"{info['source']}_{info['split']}_{self.ways}way_{self.shots}shot{kind}"


def large_enough(dataset: Any, shots: int, queries: int) -> np.ndarray:
    """Indices of the classes with as many images as an episode takes of a class.

    Raises:
      EvaluationError: there are fewer than two.
    """
    found = np.flatnonzero(dataset.size >= shots + queries)
    if len(found) < 2:
        info = dataset.info
        raise EvaluationError(
            f"{shots} shots and {queries} queries need classes of {shots + queries} images, and {info['source']} "
            f"({info['split']}) has {len(found)} of {dataset.num_classes} classes as large; the two largest have "
            f"{np.sort(dataset.size)[-2:].tolist()} images: lower eval.shots or eval.queries"
        )
    return found


def draw_episodes(
    dataset: Any, ways: int, shots: int, queries: int, num: int, seed: int, binarize: str = "dynamic"
) -> Episodes:
    """Episodes of classes drawn from the whole data set, a function of it and the seed.

    Episode i is the same however many there are. Where all classes are large enough it has the same classes and
    queries at any number of shots, and more shots add to the fewer.

    Args:
      ways: classes of an episode; all of the data set's where it has fewer (condition ``ways_asked``).
      queries: per class, no support images.
      binarize: as in `data.fixed_sets`: an image has the same pixels there and here.

    Raises:
      EvaluationError: fewer than two classes have ``shots + queries`` images.
    """
    from hfsgm_jax.data.fixed_sets import pixels_of

    large = large_enough(dataset, shots, queries)
    conditions = {"ways_asked": ways} if ways > len(large) else {}
    if len(large) < dataset.num_classes:
        conditions["classes_large_enough"] = len(large)
    ways = min(ways, len(large))
    place, index = np.empty((num, ways), np.int64), np.empty((num, ways, queries + shots), np.int64)
    for episode in range(num):
        rng = np.random.default_rng([seed, 2, episode])
        place[episode] = rng.permutation(large)[:ways]
        for way, c in enumerate(place[episode]):
            index[episode, way] = dataset.start[c] + rng.permutation(dataset.size[c])[: queries + shots]
    images = pixels_of(dataset, index, seed, binarize)
    return Episodes(
        dataset=dataset,
        support=images[:, :, queries:],
        query=images[:, :, :queries].reshape(num, ways * queries, *images.shape[3:]),
        answer=np.broadcast_to(np.repeat(np.arange(ways), queries), (num, ways * queries)),
        classes=f"whole {dataset.info['split']} set",
        place=place,
        conditions=conditions | {"queries": queries},
    )


def within_alphabet(dataset: Any, seed: int, binarize: str) -> Episodes:
    """Lake's 20 runs of 20-way one-shot classification within an alphabet.

    Raises:
      DataError: the data set does not hold their images; says why.
    """
    from hfsgm_jax.data import lake_runs

    support, query, answer = lake_runs(dataset, seed, binarize)
    return Episodes(dataset, support[:, :, None], query, answer, "within alphabet", None, {"queries": 1})
