"""New characters of an alphabet, new images of a character, characters redrawn in another style; task `shared`."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hfsgm_jax import sampling
from hfsgm_jax.evaluation import pictures
from hfsgm_jax.evaluation.context import Evaluation, as_batch
from hfsgm_jax.evaluation.recognise import CLASSIFIER, Recogniser, features
from hfsgm_jax.evaluation.records import Record, bootstrap_error
from hfsgm_jax.trace import GROUP, IMAGE, PLATES, PRIOR, SET, STYLE, Plan, Sets

COUNT = 8  # rows of a picture, new images of a row, styles
EXAMPLES = 15  # at most, images of a class that the classifier learns from


# --- values of latents, and images of values --------------------------------------------------


def shared_values(apply: Any, encode: Any, row: Sets, key: jax.Array, *, temperature: float) -> dict[str, jax.Array]:
    """A draw of every shared latent given the row's images: label -> ``[1, *event]``.

    Args:
      apply, encode, row, key: see `Evaluation.each`; the row's images are the context of every plate.
      temperature: factor on the noise of all latents.
    """
    trace = apply(as_batch(row), Plan(), key, temperature=_all_plates(temperature))
    return {latent.label: latent.value[0] for latent in trace.latents if latent.plate != IMAGE}


def from_values(
    apply: Any,
    encode: Any,
    row: dict[str, jax.Array],
    key: jax.Array,
    *,
    num: int,
    image_shape: tuple[int, int, int],
    temperature: float,
) -> dict[str, jax.Array]:
    """``num`` images from given values of some shared latents; all other latents come from their prior.

    Args:
      row: label -> ``[1, *event]``, as `shared_values` gives them.

    Returns:
      ``means``, ``draws``: ``[num, H, W, C]`` uint8, 0..255; they share their shared latents.
    """
    given = {label: value[None] for label, value in row.items()}
    blank = sampling.blank_sets(1, num, image_shape)
    trace = apply(blank, PRIOR, key, given=given, temperature=_all_plates(temperature))
    shown = dict(zip(("means", "draws"), sampling.mean_and_draw(trace.px, jax.random.fold_in(key, 1))))
    return {name: jnp.round(255 * jnp.clip(x[0], 0, 1)).astype(jnp.uint8) for name, x in shown.items()}


def _all_plates(temperature: float) -> dict[str, float]:
    return dict.fromkeys(PLATES, temperature)


def _values(evaluation: Evaluation, label: str, images: np.ndarray, mask: np.ndarray | None = None) -> dict:
    """`shared_values` of rows of images ``[rows, n, H, W, C]``."""
    rows = jax.tree.map(np.asarray, Sets.of(images, mask))
    return evaluation.each(label, shared_values, rows, temperature=float(evaluation.options.temperature))


def _images(evaluation: Evaluation, label: str, values: dict[str, np.ndarray], num: int) -> dict[str, np.ndarray]:
    """`from_values` of rows of values, in [0, 1]."""
    shape = tuple(evaluation.config.image_shape)
    static = dict(num=num, image_shape=shape, temperature=float(evaluation.options.temperature))
    found = evaluation.each(label, from_values, values, images_per_row=num, **static)
    return {name: images.astype(np.float32) / 255 for name, images in found.items()}


def _labels(evaluation: Evaluation, plate: str) -> list[str]:
    return [node.label for node in evaluation.shared_nodes if node.plate == plate]


def _pick(values: dict[str, np.ndarray], labels: list[str]) -> dict[str, np.ndarray]:
    return {label: values[label] for label in labels}


def _record(evaluation: Evaluation, page: Any, name: str, **conditions: Any) -> Record:
    path = pictures.save(page, evaluation.folder / f"shared_{name}.png")
    told = {"temperature": evaluation.options.temperature, **conditions}
    return {"pictures": [f"eval/{path.name}"], **told, **evaluation.data_conditions(evaluation.dataset)}


# --- alphabet and character (figure 7) --------------------------------------------------------


def groups(evaluation: Evaluation) -> Iterator[tuple[str, Record]]:
    """New characters of unseen alphabets, then new images of unseen characters.

    ``alphabets``: a from q(a; D) of one image each of several characters, then for every new character its own c from
    p(c | a), and an image. ``characters``: a and c from their posteriors given one image, and given a set.
    """
    size = evaluation.config.data.group_size
    images, mask = _of_groups(evaluation, size)
    values = _pick(_values(evaluation, "alphabets", images, mask), _labels(evaluation, GROUP))
    each = {label: np.repeat(value, COUNT, 0) for label, value in values.items()}
    new = _images(evaluation, "new characters", each, 1)
    means, draws = (new[name].reshape(len(images), COUNT, *images.shape[2:]) for name in ("means", "draws"))
    titles = f"{size} characters of an alphabet", "new characters: means", "draws"
    page = pictures.grid([images, means, draws], titles, [mask, None, None])
    yield "alphabets", _record(evaluation, page, "alphabets", group_size=size)

    contexts = evaluation.fixed_sets(evaluation.dataset, evaluation.set_size, COUNT)
    blocks, titles = [contexts.images], ["a character"]
    for n in dict.fromkeys((1, evaluation.set_size)):
        given = contexts.mask & (np.arange(contexts.mask.shape[1]) < n)  # one program for any number
        values = _values(evaluation, f"characters, {n} shot", contexts.images, given)
        blocks.append(_images(evaluation, f"new images, {n} shot", values, COUNT)["means"])
        titles.append("given the first image" if n == 1 else f"given all {n}")
    page = pictures.grid(blocks, titles, [contexts.mask] + [None] * (len(blocks) - 1))
    yield "characters", _record(evaluation, page, "characters", set_size=evaluation.set_size)


def _of_groups(evaluation: Evaluation, size: int) -> tuple[np.ndarray, np.ndarray]:
    """``[groups, size, H, W, C]``: an image each of ``size`` classes of some groups, and which there are."""
    from hfsgm_jax.data.fixed_sets import pixels_of

    dataset, seed = evaluation.dataset, evaluation.options.seed
    rng = np.random.default_rng([seed, 7])
    chosen = rng.permutation(np.unique(dataset.group))[:COUNT]
    index, mask = np.zeros((len(chosen), size), np.int64), np.zeros((len(chosen), size), bool)
    for row, group in enumerate(chosen):
        classes = rng.permutation(np.flatnonzero(dataset.group == group))[:size]
        index[row, : len(classes)] = dataset.start[classes] + rng.integers(0, dataset.size[classes])
        mask[row, : len(classes)] = True
    return pixels_of(dataset, index, seed, evaluation.config.data.binarize), mask


# --- content and style (figure 8) -------------------------------------------------------------


def styles(evaluation: Evaluation) -> Iterator[tuple[str, Record]]:
    """Unseen characters redrawn in styles, and whether style and character of the drawings are recognised.

    ``style_transfer``: c from images of a character, each in its own style, s from images of a style, of any
    characters; every pair of a character and a style makes an image. ``style_recognised``: the style of the nearest
    mean colour among the styles shown. ``content_recognised``: the character by a classifier of grey images. Both of
    means and of draws.
    """
    content, examples = _contents(evaluation)
    shown, which = _of_styles(evaluation, content.shape[1])
    c = _pick(_values(evaluation, "contents", content), _labels(evaluation, SET))
    s = _pick(_values(evaluation, "styles", shown), _labels(evaluation, STYLE))
    rows, columns = len(content), len(which)
    cells = {label: np.repeat(value, columns, 0) for label, value in c.items()}
    cells |= {label: np.tile(value, (rows, *[1] * (value.ndim - 1))) for label, value in s.items()}
    drawn = _images(evaluation, "style transfer", cells, 1)
    means, draws = (drawn[name].reshape(rows, columns, *content.shape[2:]) for name in ("means", "draws"))
    conditions = {"set_size": content.shape[1], "style_size": shown.shape[1]}
    page = _transfer_page(content[:COUNT], shown, means[:COUNT], draws[:COUNT])
    yield "style_transfer", _record(evaluation, page, "style_transfer", **conditions)

    conditions |= evaluation.data_conditions(evaluation.dataset) | {"temperature": evaluation.options.temperature}
    real_style = _nearest_colour(evaluation, shown, which) == np.arange(columns)[:, None]
    recogniser, row = Recogniser(*examples), np.arange(rows)[:, None]
    named = lambda images: recogniser.scores(features(_grey(images))).argmax(-1) == row  # noqa: E731
    real_content = named(content)
    for kind, images in (("means", means), ("draws", draws)):
        rightly = _nearest_colour(evaluation, images, which) == np.arange(columns)
        judge = {"kind": kind, "classifier": "mean colour", "ways": columns}
        yield "style_recognised", _fraction(rightly.mean(1), real_style, judge | conditions)
        judge = {"kind": kind, "classifier": CLASSIFIER, "ways": rows}
        yield "content_recognised", _fraction(named(images).mean(1), real_content, judge | conditions)


def _contents(evaluation: Evaluation) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Contexts ``[classes, n, H, W, C]``, images in their own styles; features and classes of other images."""
    from hfsgm_jax.data.fixed_sets import pixels_of

    dataset, options, size = evaluation.dataset, evaluation.options, evaluation.set_size
    rng = np.random.default_rng([options.seed, 8])
    classes = rng.permutation(np.flatnonzero(dataset.size >= size + 2))[: options.ways]
    most = size + min(EXAMPLES, int(dataset.size[classes].min()) - size)
    index = np.stack([dataset.start[c] + rng.permutation(dataset.size[c])[:most] for c in classes])
    images = pixels_of(dataset, index, options.seed, evaluation.config.data.binarize)
    labels = np.repeat(np.arange(len(classes)), most - size)
    return images[:, :size], (features(_grey(images[:, size:])).reshape(len(labels), -1), labels)


def _of_styles(evaluation: Evaluation, most: int) -> tuple[np.ndarray, np.ndarray]:
    """``[styles, size, H, W, C]``: images of some styles, of any classes; and which styles."""
    from hfsgm_jax.data.fixed_sets import pixels_of

    dataset, options = evaluation.dataset, evaluation.options
    size = min(evaluation.config.data.style_size, most)
    rng = np.random.default_rng([options.seed, 9])
    which = np.flatnonzero(np.bincount(dataset.style) >= size)
    which = np.sort(rng.permutation(which)[:COUNT])
    index = np.stack([rng.permutation(np.flatnonzero(dataset.style == style))[:size] for style in which])
    return pixels_of(dataset, index, options.seed, evaluation.config.data.binarize), which


def _transfer_page(content: np.ndarray, shown: np.ndarray, means: np.ndarray, draws: np.ndarray) -> Any:
    """Styles on top, a column each; below them each row is a content redrawn."""
    top = shown.swapaxes(0, 1)  # [images of a style, styles, ...]
    left = np.concatenate([np.zeros((len(top), *content.shape[1:])), content])
    mask = np.arange(len(left)) >= len(top)
    masks = np.broadcast_to(mask[:, None], left.shape[:2]), None, None
    blocks = [left, np.concatenate([top, means]), np.concatenate([top, draws])]
    return pictures.grid(blocks, ["content", "style (top), redrawn (below): means", "draws"], masks)


def _grey(images: np.ndarray) -> np.ndarray:
    return images.max(-1, keepdims=True)


def _nearest_colour(evaluation: Evaluation, images: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Index into the styles ``which`` of each image's style: by the direction of its summed colour."""
    from hfsgm_jax.data.styles import palette

    colours = palette(evaluation.dataset.info["styles"]).colour[which]
    colours = colours / np.linalg.norm(colours, axis=1, keepdims=True)
    return (images.sum((-3, -2)) @ colours.T).argmax(-1)


def _fraction(rightly: np.ndarray, real: np.ndarray, conditions: dict[str, Any]) -> Record:
    """``rightly`` ``[rows]``: the fraction of a row's images."""
    parts = {"real_images": float(real.mean()), "chance": 1 / conditions["ways"]}
    error = bootstrap_error(rightly, np.ones(len(rightly)))
    value = {"value": float(rightly.mean()), "unit": "fraction", "standard_error": error}
    return {**value, "parts": parts, "classes": len(rightly), **conditions}
