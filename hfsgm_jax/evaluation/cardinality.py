"""NELBO against the size of the set, on classes of training and on new ones (SCHA-VAE, Table 2, figures 1 and 10)."""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hfsgm_jax.evaluation import plots
from hfsgm_jax.evaluation.context import Evaluation, sets_of
from hfsgm_jax.evaluation.likelihood import nelbo_record, set_nelbo
from hfsgm_jax.evaluation.records import Record

DEGREES = 180.0  # of the largest rotation, either way: all angles, as in the papers
_ROWS = 16  # sets augmented at once


def check(evaluation: Evaluation) -> None:
    """Raises for a model without set latents, and where classes are too small."""
    evaluation.require_context("cardinality")
    *_, (_, tested) = _splits(evaluation)
    evaluation.check_sets(tested, evaluation.options.set_sizes)


def cardinality(evaluation: Evaluation) -> Iterator[tuple[str, Record]]:
    """Yields ``nelbo``, nats per image, for every split, set size, and with and without augmentation.

    The splits: ``train`` (the very images of training) and ``heldout`` (other images of the same
    classes) are in distribution, ``eval.split`` is not. Augmented sets are flipped and rotated, a
    whole set alike, by any angle, and then binarised as the others are (the papers' augmentation).
    """
    lines: dict[tuple[str, bool], list[tuple[float, Record]]] = {}
    if not evaluation.config.data.heldout:
        print("  trained with data.heldout=0: no images of training classes were held out to evaluate")
    for name, dataset in _splits(evaluation):
        for size in _sizes(evaluation, dataset):
            for augmented in (False, True) if dataset.image_shape[0] > 1 else (False,):  # numbers cannot be turned
                batch = evaluation.fixed_sets(dataset, size)
                if augmented:
                    batch = augmented_sets(evaluation, dataset, size)
                sets = sets_of(batch)
                label = f"{name}, sets of {size}{', augmented' if augmented else ''}"
                results = evaluation.each(label, set_nelbo, sets)
                conditions = evaluation.data_conditions(dataset, batch) | {"augmented": augmented}
                record = nelbo_record(results, sets, **conditions)
                lines.setdefault((name, augmented), []).append((size, record))
                yield "nelbo", record
    path = evaluation.folder / plots.file_name("cardinality", evaluation.data_conditions(dataset) | {"set_size": "all"})
    page, axes = plots.figure(2, sharex=True)
    for (name, augmented), points in lines.items():
        plots.errorbars(axes[int(augmented)], points, label=name)
    for axis, title in zip(axes, ("as they are", "flipped and rotated"), strict=True):
        against_size(axis, evaluation.options.set_sizes, title)
    plots.save(page, path)
    yield "figure", {"pictures": [f"eval/{path.name}"], **evaluation.data_conditions(dataset)}


def against_size(axis: Any, sizes: Sequence[int], title: str) -> None:
    """Labels axes that show NELBO against the size of the set."""
    axis.set(xscale="log", xlabel="images per set", ylabel="NELBO, nats per image")
    axis.set_xticks(sorted(set(sizes)), [str(size) for size in sorted(set(sizes))])
    axis.minorticks_off()
    axis.set_title(title, fontsize=9)
    axis.legend(fontsize=8)


def _splits(evaluation: Evaluation) -> list[tuple[str, Any]]:
    """(what it is called, data set): the images of training, held-out ones, and last ``eval.split``."""
    config = evaluation.config
    own = ["train", "heldout"] if config.data.heldout else ["train"]
    found = [(split, config.data.source) for split in own]
    tested = (evaluation.options.split, evaluation.options.source or config.data.source)
    found = [*(key for key in found if key != tested), tested]
    meaning = {"train": "training images", "heldout": "held-out images of training classes"}
    called = [
        meaning.get(split) if source == config.data.source and split in meaning else f"{source} {split} classes"
        for split, source in found
    ]
    return [(name, evaluation.load(*key)) for name, key in zip(called, found, strict=True)]


def _sizes(evaluation: Evaluation, dataset: Any) -> list[int]:
    """The set sizes that the classes allow; says which they do not."""
    sizes, largest = list(dict.fromkeys(evaluation.options.set_sizes)), int(dataset.size.max())
    if max(sizes) > largest:
        split = dataset.info["split"]
        print(f"  {split}: no sets of more than {largest} images, as classes have no more (data.heldout)")
    return [size for size in sizes if size <= largest]


def augmented_sets(evaluation: Evaluation, dataset: Any, set_size: int) -> Any:
    """The fixed sets of this size, each flipped and rotated by ``eval.seed``, then binarised as the config says."""
    from hfsgm_jax.data import fixed_sets

    options = evaluation.options
    batch = fixed_sets(dataset, set_size, options.max_sets, options.seed, "none")
    keys = jax.random.split(jax.random.key(options.seed), len(batch.images))
    images = np.asarray(_augment(keys, batch.images, evaluation.config.data.binarize))
    return batch._replace(images=images * batch.mask[:, :, None, None, None])


@functools.partial(jax.jit, static_argnums=2)
def _augment(keys: jax.Array, images: jax.Array, binarize: str) -> jax.Array:
    """``[sets, N, H, W, C]`` grey images, each set turned by its key; what turns in from outside is 0."""
    from hfsgm_jax.data import SetSpec, augment

    spec = SetSpec(rows=1, low=1, high=images.shape[1], flip=True, rotate=DEGREES)
    height, width = images.shape[2:4]
    edge = math.ceil(max(height, width) * (math.sqrt(2) - 1) / 2) + 1  # the corners of a square at 45 degrees

    def turn(key_and_row):
        key, row = jax.tree.map(lambda x: x[None], key_and_row)
        wide = jnp.pad(row, ((0, 0), (0, 0), (edge, edge), (edge, edge), (0, 0)))
        row = augment.augment_rows(key, wide, jnp.zeros(1, jnp.int32), spec)[:, :, edge:-edge, edge:-edge]
        row = jnp.clip(row, 0, 1)  # interpolation rounds
        return (augment.binarize_rows(key, row) if binarize == "dynamic" else row)[0]

    return jax.lax.map(turn, (keys, images), batch_size=_ROWS)
