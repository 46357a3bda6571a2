"""Few-shot episodes: classes, a few images of each, and queries to be named."""

from typing import Any, NamedTuple

import numpy as np

from hfsgm_jax.data import Dataset, lake_runs, pixels_of
from hfsgm_jax.errors import DataError


class Episodes(NamedTuple):
    """Episodes of one kind, on the host; E episodes of Y ways, n shots and Q queries.

    Attributes:
      dataset: source of the images.
      support: ``[E, Y, n, H, W, C]`` float32 in [0, 1].
      query: ``[E, Q, H, W, C]``.
      label: ``[E, Q]``, the way of each query, 0 ... Y - 1.
      conditions: of every result, beside those of the data: ``classes`` (which meet in an episode), ways, shots, ...
    """

    dataset: Dataset
    support: np.ndarray
    query: np.ndarray
    label: np.ndarray
    conditions: dict[str, Any]

    @property
    def name(self) -> str:
        """Short, for progress and the names of files: other episodes, another name."""
        kind = "" if self.conditions["classes"][:5] == "whole" else "_" + self.conditions["classes"].replace(" ", "_")
        return "{source}_{split}_{ways}way_{shots}shot".format_map(self.dataset.info | self.conditions) + kind


def draw_episodes(
    dataset: Dataset, ways: int, shots: int, queries: int, num: int, seed: int, binarize: str, within: bool = False
) -> Episodes:
    """Episodes of classes drawn from the whole data set, or each from one group of it, a function of it and the seed.

    Episode i is the same however many there are. Where all classes are large enough it has the same classes and
    queries at any number of shots, and more shots add to the fewer.

    Args:
      ways: classes of an episode; all of the data set's where it has fewer (condition ``ways_asked``).
      queries: per class, no support images.
      binarize: as in `data.fixed_sets`: an image has the same pixels there and here.
      within: the classes of an episode are of one group (alphabet), any that has as many.

    Raises:
      DataError: fewer than two classes have ``shots + queries`` images, or no group has ``ways`` of them.
    """
    each, large = shots + queries, np.flatnonzero(dataset.size >= shots + queries)
    if len(large) < 2:
        problem = f"{shots} shots and {queries} queries need classes of {each} images"
        raise DataError(f"{problem}, and {len(large)} of {dataset.num_classes} are as large: lower eval.shots")
    pools, kind = [large], f"whole {dataset.info['split']} set"
    if within:
        groups = (large[dataset.group[large] == group] for group in np.unique(dataset.group))
        pools, kind = [group for group in groups if len(group) >= ways], "within alphabet"
    if not pools:
        raise DataError(f"no group of {dataset.info['source']} has {ways} classes of {each} images: lower eval.ways")
    conditions = dict(classes=kind, ways=min(ways, len(large)), shots=shots, queries=queries, episodes=num)
    conditions |= {"ways_asked": ways} if ways > len(large) else {}
    conditions |= {"classes_large_enough": len(large)} if len(large) < dataset.num_classes else {}
    members = []
    for episode in range(num):
        rng = np.random.default_rng([seed, 2, episode])
        chosen = rng.permutation(pools[rng.integers(len(pools))])[:ways]
        members.append([dataset.start[c] + rng.permutation(dataset.size[c])[:each] for c in chosen])
    images = pixels_of(dataset, np.array(members), seed, binarize)
    query = images[:, :, :queries].reshape(num, -1, *images.shape[3:])
    label = np.tile(np.repeat(np.arange(conditions["ways"]), queries), (num, 1))
    return Episodes(dataset, images[:, :, queries:], query, label, conditions)


def within_alphabet(dataset: Dataset, seed: int, binarize: str) -> Episodes:
    """Lake's 20 runs of 20-way one-shot classification within an alphabet.

    Raises:
      DataError: the data set does not hold their images; says why.
    """
    support, query, label = lake_runs(dataset, seed, binarize)
    conditions = dict(classes="within alphabet", ways=support.shape[1], shots=1, queries=1, episodes=len(label))
    return Episodes(dataset, support[:, :, None], query, label, conditions)
