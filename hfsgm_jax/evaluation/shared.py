"""Latents that more than a class shares: of its alphabet, or of a style across classes (VHE 4.3, figures 7, 8)."""

from typing import Any

import jax
import numpy as np
from PIL import Image

from hfsgm_jax import sampling
from hfsgm_jax.data import pixels_of
from hfsgm_jax.errors import NotApplicable
from hfsgm_jax.evaluation import pictures, plots
from hfsgm_jax.evaluation.base import Evaluation
from hfsgm_jax.evaluation.records import Records
from hfsgm_jax.trace import GROUP, PRIOR, SET, STYLE, Apply, Encode, Plan, Sets, as_batch

KINDS = "means", "draws"  # of images
COUNT = 8  # rows of a picture, new images of a row, styles

Values = dict[str, Any]  # label of a latent, or kind of images -> [rows, ...]


def shared(run: Evaluation) -> Records:
    """Pictures of every level, of unseen classes.

    * ``alphabets``: new characters of unseen alphabets: a from q(a; D) of one image each of several characters, then
      for every new character its own c from p(c | a), and an image. (Of known characters: ``conditional`` of `sample`.)
    * ``style_transfer``: c from images of a character, each in its own style, s from images of a style, of any
      characters; every pair of a character and a style makes an image.

    Raises:
      NotApplicable: the model has no plate beside that of the set.
      ConfigError: sets larger than any class.
    """
    plates = {node.plate for node in run.model.nodes}
    if not {GROUP, STYLE} & plates:
        about = "shared is about latents of groups of classes or of styles"
        raise NotApplicable(f"{about}, and model.name={run.config.model.name!r} has none")
    run.check_sets()
    conditions = run.data_conditions(run.load()) | {"set_size": run.set_size}
    if GROUP in plates:
        grouped = conditions | {"group_size": run.config.data.group_size}
        yield plots.record(run, "shared_alphabets", grouped, lambda: _alphabets(run), name="alphabets")
    if STYLE in plates:
        sized = conditions | {"style_size": _style_size(run)}
        yield plots.record(run, "shared_style_transfer", sized, lambda: _style_transfer(run), name="style_transfer")


# --- values of latents, and images of values --------------------------------------------------


def shared_values(apply: Apply, encode: Encode, row: Sets, key: jax.Array, *, plate: str) -> Values:
    """A draw of every latent of one plate given the row's images: label -> ``[1, *event]``.

    See `Evaluation.each` for the arguments; the row's images are the context of every plate.
    """
    trace = apply(as_batch(row), Plan(), key)
    return {latent.label: latent.value[0] for latent in trace.on(plate)}


def from_values(apply: Apply, encode: Encode, row: Values, key: jax.Array, *, shape: tuple[int, int, int]) -> Values:
    """An image from given values of some shared latents; all other latents come from their prior.

    Args:
      row: label -> ``[1, *event]``, as `shared_values` gives them.

    Returns:
      ``means``, ``draws``: ``[1, H, W, C]`` uint8, 0..255.
    """
    trace = apply(sampling.blank_sets(1, 1, shape), PRIOR, key, given=as_batch(row))
    return pictures.as_bytes(dict(zip(KINDS, sampling.mean_and_draw(trace.px, jax.random.fold_in(key, 1)))))


def _values(run: Evaluation, plate: str, images: np.ndarray, mask: np.ndarray | None = None) -> Values:
    """`shared_values` given rows of images ``[rows, n, H, W, C]``."""
    rows = jax.tree.map(np.asarray, Sets.of(images, mask))
    return run.each(f"shared: latents of a {plate}", shared_values, rows, plate=plate)


def _images(run: Evaluation, values: Values, rows: int) -> Values:
    """`from_values` of ``rows * n`` values, in [0, 1]: ``[rows, n, H, W, C]``."""
    found = run.each("shared: images", from_values, values, images_per_row=1, shape=tuple(run.model.image_shape))
    return {kind: images.reshape(rows, -1, *images.shape[2:]) / np.float32(255) for kind, images in found.items()}


# --- alphabets (figure 7) ---------------------------------------------------------------------


def of_groups(run: Evaluation, size: int) -> tuple[np.ndarray, np.ndarray]:
    """``[groups, size, H, W, C]``: an image each of ``size`` classes of some groups, and which there are."""
    dataset, rng = run.load(), np.random.default_rng([run.options.seed, 7])
    chosen = rng.permutation(np.unique(dataset.group))[:COUNT]
    index = np.full((len(chosen), size), -1)
    for row, group in zip(index, chosen):
        classes = rng.permutation(np.flatnonzero(dataset.group == group))[:size]
        row[: len(classes)] = dataset.start[classes] + rng.integers(0, dataset.size[classes])
    return _pixels(run, np.maximum(index, 0)), index >= 0


def _pixels(run: Evaluation, index: np.ndarray) -> np.ndarray:
    return pixels_of(run.load(), index, run.options.seed, run.config.data.binarize)


def _alphabets(run: Evaluation) -> Image.Image:
    size = run.config.data.group_size
    images, mask = of_groups(run, size)
    values = {label: np.repeat(value, COUNT, 0) for label, value in _values(run, GROUP, images, mask).items()}
    new = _images(run, values, len(images))
    titles = f"{size} characters of an alphabet", "new characters: means", "draws"
    return pictures.grid([pictures.blank(images, mask), new["means"], new["draws"]], titles)


# --- content and style (figure 8) -------------------------------------------------------------


def _style_transfer(run: Evaluation) -> Image.Image:
    """Styles on top, a column each; below them each row is a content redrawn in every style."""
    dataset, rng = run.load(), np.random.default_rng([run.options.seed, 8])
    classes = rng.permutation(np.flatnonzero(dataset.size >= run.set_size))[:COUNT]
    members = [dataset.start[c] + rng.permutation(dataset.size[c])[: run.set_size] for c in classes]
    content = _pixels(run, np.stack(members))  # [classes, n, H, W, C], each image in its own style
    size, rng = _style_size(run), np.random.default_rng([run.options.seed, 9])
    styles = np.sort(rng.permutation(np.flatnonzero(np.bincount(dataset.style) >= size))[:COUNT])
    members = [rng.permutation(np.flatnonzero(dataset.style == style))[:size] for style in styles]
    shown = _pixels(run, np.stack(members))  # [styles, size, H, W, C], of any classes
    rows, columns = np.indices((len(content), len(shown))).reshape(2, -1)
    cells = {label: value[rows] for label, value in _values(run, SET, content).items()}
    cells |= {label: value[columns] for label, value in _values(run, STYLE, shown).items()}
    redrawn = _images(run, cells, len(content))
    top = shown.swapaxes(0, 1)  # [images of a style, styles, ...]
    left = np.concatenate([np.full((len(top), *content.shape[1:]), np.nan), content])
    new = (np.concatenate([top, redrawn[kind]]) for kind in KINDS)
    return pictures.grid([left, *new], ["content", "style (top), redrawn (below): means", "draws"])


def _style_size(run: Evaluation) -> int:
    """Images that show a style, no more than show a content."""
    return min(run.config.data.style_size, run.set_size)
