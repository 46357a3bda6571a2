"""NELBO against the size of the set, on classes of training and on new ones (SCHA-VAE, Table 2, figures 1 and 10)."""

import functools
import math
import sys
from collections.abc import Generator, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hfsgm_jax.data import Dataset, SetSpec, augment
from hfsgm_jax.evaluation import plots
from hfsgm_jax.evaluation.base import Evaluation
from hfsgm_jax.evaluation.likelihood import NELBO, nelbo_of, scored, set_nelbo
from hfsgm_jax.evaluation.records import Record, Records, Result, increase
from hfsgm_jax.trace import Sets

DEGREES = 180.0  # of the largest rotation, either way: all angles, as in the papers
ROWS = 16  # sets augmented at once
LABELS = dict(xlabel="images per set", ylabel="NELBO, nats per image")


def cardinality(run: Evaluation) -> Records:
    """``nelbo``, nats per image, for every split, set size, and with and without augmentation.

    The splits: ``train`` (the very images of training) and ``heldout`` (other images of the same
    classes) are in distribution, ``eval.split`` is not. Augmented sets are flipped and rotated by any angle and then
    binarised as the others are, as by the reference code; those of a class alike, so that all sizes see the same
    images. They divide the images of a whole set, which is as large as classes allow; a size that does not is
    left out, and that is said. See `over_sizes`.
    """
    run.require_context("cardinality")
    run.require_images("cardinality")
    splits, sizes = _splits(run), run.options.set_sizes
    panels = {"as they are": {}, "flipped and rotated": {}}
    for name, dataset in splits.items():
        for augmented, lines in zip((False, True), panels.values()):
            whole, label = sets_to_cut(run, dataset, sizes, augmented), f"{name}{', augmented' if augmented else ''}"
            lines[name] = yield from over_sizes(run, label, dataset, whole, sizes, augmented=augmented)
    tested = run.data_conditions(run.load()) | {"set_size": "all"}
    yield plots.record(run, "cardinality", tested, functools.partial(plots.lines, panels, **LABELS), keep=False)


def _splits(run: Evaluation) -> dict[str, Dataset]:
    """Name -> images of training and held-out ones, where they are at hand, and last ``eval.split``."""
    own, split, source = run.config.data.source, run.options.split, run.options.source
    names = {("train", own): "training images", ("heldout", own): "held-out images of training classes"}
    tested = names.pop((split, source or own), f"{source or own} {split} classes")
    parts = {name: functools.partial(run.load, *key) for key, name in names.items()}
    return run.at_hand("cardinality", parts) | {tested: run.load()}


# --- the same images in sets of every size ----------------------------------------------------


def over_sizes(
    run: Evaluation, label: str, dataset: Dataset, whole: Sets, sizes: Iterable[int], **conditions: Any
) -> Generator[Record, Result, list[tuple[int, Result]]]:
    """``nelbo`` of the same images in sets of every size; returns ``(size, result)`` of each.

    ``parts`` holds the ``increase`` over the smallest size, with the error of this difference.

    Args:
      label: of the progress.
      whole: from `sets_to_cut`.
    """
    if left := sorted({size for size in sizes if whole.num_slots % size}):
        print(f"evaluate: {label}: without sets of {left}, which do not divide {whole.num_slots}", file=sys.stderr)
    sizes = sorted({*sizes} - {*left})
    points = []

    def measure(size, sets):
        found = nelbo_of(run.each(f"{label}, sets of {size}", set_nelbo, sets), sets)
        return found | {"parts": found["parts"] | (increase(found, points[0][1]) if points else {})}

    for size in sizes:
        shorter = cut(whole, size)
        sets, one_by_one = scored(run, shorter)
        data = NELBO | one_by_one | run.data_conditions(dataset, shorter) | conditions
        points.append((size, (yield Record("nelbo", data, functools.partial(measure, size, sets)))))
    return points


def sets_to_cut(run: Evaluation, dataset: Dataset, sizes: Iterable[int], augmented: bool = False) -> Sets:
    """Sets of as many images as all sizes divide, or as many sizes as the classes' images allow, the largest first."""
    whole = 1
    for size in sorted(sizes, reverse=True):
        multiple = math.lcm(whole, size)
        whole = multiple if multiple <= dataset.size.max() else whole
    sets = augmented_sets(run, dataset, whole) if augmented else run.fixed_sets(dataset, whole)
    return jax.tree.map(lambda x: x[sets.observed.all(1)], sets)


def cut(whole: Sets, size: int) -> Sets:
    """The same images in sets of ``size``, which divides the slots."""
    shorter = lambda x: np.repeat(x, whole.num_slots // size, 0) if x.ndim == 1 else x.reshape(-1, size, *x.shape[2:])
    return jax.tree.map(shorter, whole)


def augmented_sets(run: Evaluation, dataset: Dataset, set_size: int) -> Sets:
    """The fixed sets of this size, each flipped and rotated by ``eval.seed``, then binarised as the config says."""
    sets = run.fixed_sets(dataset, set_size, binarize="none")
    keys = jax.random.split(jax.random.key(run.options.seed), sets.num_rows)
    spec = SetSpec(1, 1, set_size, run.config.data.binarize, flip=True, rotate=DEGREES, binary=dataset.binary)
    images = np.asarray(_augment(keys, sets.images, spec))
    return sets.replace(images=images * sets.observed[:, :, None, None, None])


@functools.partial(jax.jit, static_argnums=2)
def _augment(keys: jax.Array, images: jax.Array, spec: SetSpec) -> jax.Array:
    """``[sets, N, H, W, C]`` images, each set turned by its key; what turns in from outside is 0."""

    def turn(key_and_row):
        key, row = jax.tree.map(lambda x: x[None], key_and_row)
        row = jnp.clip(augment.augment_rows(key, row, None, spec), 0, 1)  # interpolation rounds
        return (augment.binarize_rows(key, row) if spec.binarize == "dynamic" else row)[0]

    return jax.lax.map(turn, (keys, images), batch_size=ROWS)
