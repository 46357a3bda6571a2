"""NELBO against the size of the set, on classes of training and on new ones (SCHA-VAE, Table 2, figures 1 and 10)."""

import functools
import math
import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from hfsgm_jax.data import Dataset, SetSpec, augment
from hfsgm_jax.evaluation import plots
from hfsgm_jax.evaluation.base import Evaluation
from hfsgm_jax.evaluation.likelihood import nelbo_record, set_nelbo
from hfsgm_jax.evaluation.records import Record, Records, Result
from hfsgm_jax.trace import Sets

DEGREES = 180.0  # of the largest rotation, either way: all angles, as in the papers
ROWS = 16  # sets augmented at once
LABELS = dict(xlabel="images per set", ylabel="NELBO, nats per image")


def cardinality(run: Evaluation) -> Records:
    """``nelbo``, nats per image, for every split, set size, and with and without augmentation.

    The splits: ``train`` (the very images of training) and ``heldout`` (other images of the same
    classes) are in distribution, ``eval.split`` is not. Augmented sets are flipped and rotated, a
    whole set alike, by any angle, and then binarised as the others are (the papers' augmentation).
    """
    run.require_context("cardinality")
    run.require_images("cardinality")
    splits = _splits(run)
    tested = list(splits.values())[-1]
    run.check_sets(tested, run.options.set_sizes)
    lines: dict[bool, dict[str, list[tuple[int, Result]]]] = {False: {}, True: {}}
    for name, dataset in splits.items():
        for size in sizes_of(dataset, run.options.set_sizes):
            for augmented in lines:
                sets = augmented_sets(run, dataset, size) if augmented else run.fixed_sets(dataset, size)
                label = f"{name}, sets of {size}{', augmented' if augmented else ''}"
                conditions = run.data_conditions(dataset, sets) | {"augmented": augmented}
                result = yield nelbo_record(conditions, sets, functools.partial(run.each, label, set_nelbo, sets))
                lines[augmented].setdefault(name, []).append((size, result))

    path = run.folder / plots.file_name("cardinality", tested.info | {"set_size": "all"})
    panels = dict(zip(("as they are", "flipped and rotated"), lines.values()))
    yield Record("figure", run.data_conditions(tested), lambda: plots.lines(path, panels, **LABELS), keep=False)


def _splits(run: Evaluation) -> dict[str, Dataset]:
    """Name -> images of training, held-out ones, and last ``eval.split``."""
    own, options = run.config.data.source, run.options
    names = {("train", own): "training images", ("heldout", own): "held-out images of training classes"}
    if not run.config.data.heldout:
        print(
            "evaluate: cardinality goes without held-out images of training classes (data.heldout=0)", file=sys.stderr
        )
        del names["heldout", own]
    split, source = options.split, options.source or own
    last = names.pop((split, source), f"{source} {split} classes")
    return {name: run.load(*key) for key, name in names.items()} | {last: run.load()}


def sizes_of(dataset: Dataset, sizes: Sequence[int]) -> list[int]:
    """The set sizes that the classes allow, each once: fewer where few images are held out."""
    return [size for size in dict.fromkeys(sizes) if size <= dataset.size.max()]


def augmented_sets(run: Evaluation, dataset: Dataset, set_size: int) -> Sets:
    """The fixed sets of this size, each flipped and rotated by ``eval.seed``, then binarised as the config says."""
    sets = run.fixed_sets(dataset, set_size, binarize="none")
    keys = jax.random.split(jax.random.key(run.options.seed), sets.num_rows)
    images = np.asarray(_augment(keys, sets.images, run.config.data.binarize))
    return sets.replace(images=images * sets.observed[:, :, None, None, None])


@functools.partial(jax.jit, static_argnums=2)
def _augment(keys: jax.Array, images: jax.Array, binarize: str) -> jax.Array:
    """``[sets, N, H, W, C]`` grey images, each set turned by its key; what turns in from outside is 0."""
    spec = SetSpec(rows=1, low=1, high=images.shape[1], flip=True, rotate=DEGREES)
    edge = math.ceil(max(images.shape[2:4]) * (math.sqrt(2) - 1) / 2) + 1  # the corners of a square at 45 degrees

    def turn(key_and_row):
        key, row = jax.tree.map(lambda x: x[None], key_and_row)
        wide = jnp.pad(row, ((0, 0), (0, 0), (edge, edge), (edge, edge), (0, 0)))
        row = augment.augment_rows(key, wide, None, spec)[:, :, edge:-edge, edge:-edge]
        row = jnp.clip(row, 0, 1)  # interpolation rounds
        return (augment.binarize_rows(key, row) if binarize == "dynamic" else row)[0]

    return jax.lax.map(turn, (keys, images), batch_size=ROWS)
