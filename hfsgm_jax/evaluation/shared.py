"""Latents that more than a class shares: of its alphabet, or of a style across classes (VHE 4.3, figures 7, 8)."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from PIL import Image

from hfsgm_jax import sampling
from hfsgm_jax.config import num_targets
from hfsgm_jax.data import SetSpec, drawn_sets, pixels_of, styles
from hfsgm_jax.errors import NotApplicable
from hfsgm_jax.evaluation import pictures, plots
from hfsgm_jax.evaluation.base import Evaluation, as_batch
from hfsgm_jax.evaluation.likelihood import set_nelbo
from hfsgm_jax.evaluation.records import Record, Records, increase, measured
from hfsgm_jax.evaluation.sample_quality import CLASSIFIER, Recogniser, features
from hfsgm_jax.sampling import Apply, Encode
from hfsgm_jax.trace import GROUP, PLATES, PRIOR, SET, STYLE, Plan, Sets

NAMES = {GROUP: "group", SET: "class", STYLE: "style"}  # in units
PLAIN = dict(flip=False, rotate=0.0, affine=0.0, dihedral=False, copies=1)  # sets without augmentation
KINDS = "means", "draws"  # of images
COUNT = 8  # rows of a picture, new images of a row, styles
EXAMPLES = 15  # at most, images of a class that the classifier learns from

Values = dict[str, Any]  # label of a latent, or kind of images -> [rows, ...]


def shared(run: Evaluation) -> Records:
    """The bound and KLs on unseen classes, pictures of every level, and the recognition of redrawn characters.

    * ``bound``: nats per image, of images drawn apart from every D (which may hold them): -log p(x) + KL_z + sum of
      KL_c / |X| over the plates, each with its own D drawn apart (eq. 15, 24). Condition ``evidence``: ``own``, or
      "other class", "other group", "other style": the D of that plate is another's, which costs as much as the model
      makes of it: ``increase`` among the parts, with its error.
    * ``kl_a1``, ``kl_c1``, ``kl_s1``: KL of a shared latent, nats per group, class, style; ``parts``: per image.
    * ``kl_z``: nats per image.
    * ``alphabets``: new characters of unseen alphabets: a from q(a; D) of one image each of several characters, then
      for every new character its own c from p(c | a), and an image. (Of known characters: ``conditional`` of `sample`.)
    * ``style_transfer``: c from images of a character, each in its own style, s from images of a style, of any
      characters; every pair of a character and a style makes an image. ``style_recognised``: the style of the nearest
      mean colour among the styles shown. ``content_recognised``: the character by a classifier of grey images. Both of
      means and of draws.

    Raises:
      NotApplicable: the model has no plate beside that of the set.
      ConfigError: sets larger than any class.
    """
    plates = {node.plate for node in run.model.nodes}
    if not {GROUP, STYLE} & plates:
        name = run.config.model.name
        raise NotApplicable(
            f"shared is about latents of groups of classes or of styles, and model.name={name!r} has none"
        )
    run.check_sets()
    conditions = run.data_conditions(run.load()) | {"set_size": run.set_size}
    yield from _bounds(run, conditions)
    conditions["temperature"] = run.options.temperature
    if GROUP in plates:
        file, grouped = plots.file_name("shared_alphabets", conditions), {"group_size": run.config.data.group_size}
        yield plots.record(run, file, conditions | grouped, lambda: _alphabets(run), name="alphabets")
    if STYLE in plates:
        yield from _styles(run, conditions)


# --- bounds -----------------------------------------------------------------------------------


def drawn(run: Evaluation) -> Sets:
    """Sets of unseen classes as in training, nothing augmented, drawn by ``eval.seed``."""
    dataset, size = run.load(), run.set_size
    targets = 1 if dataset.style is not None else num_targets(run.config) or size
    rows = run.options.max_sets or dataset.num_classes
    spec = SetSpec.from_config(run.config.data, targets)
    return drawn_sets(dataset, dataclasses.replace(spec, rows=rows, low=size, high=size, **PLAIN), run.options.seed)


def with_other_evidence(sets: Sets, plate: str) -> Sets | None:
    """The sets with the context of ``plate`` taken from the next row of another one; None if there is none such."""
    rows, which, mask = np.arange(sets.num_rows), sets.ids[plate], sets.context_of(plate)
    later = (rows[:, None] + np.arange(1, len(rows))) % len(rows)
    differ = which[later] != which[:, None]
    if not differ.any(1).all() or (mask != mask[:1]).any():
        return None
    partner = later[rows, differ.argmax(1)]
    return sets.replace(images=np.where(mask[..., None, None, None], sets.images[partner], sets.images))


def _bounds(run: Evaluation, conditions: dict[str, Any]) -> Records:
    nodes, sets, data = run.model.shared_nodes, drawn(run), run.config.data
    count, classes = sets.target.sum(1), sets.ids[SET]
    conditions = conditions | {"num_sets": sets.num_rows, "num_classes": len(np.unique(classes))}
    conditions["targets"] = int(count.max())
    conditions["objective"] = "vhe"  # the bound that is measured, whatever the model was trained by
    conditions |= {key: data[key] for key in ("group_size", "style_size") if data[key]}
    evidence = {"own": sets}
    for plate in dict.fromkeys(node.plate for node in nodes):
        evidence[f"other {NAMES[plate]}"] = with_other_evidence(sets, plate)

    @functools.cache
    def terms(name):
        plan = Plan(decode="target", num_decoded=int(count.max()))
        return run.each(f"shared: {name} evidence", set_nelbo, evidence[name], plan=plan)

    def parts(name):
        found = terms(name)
        kls = {f"kl_{node.label}": found[node.label] / sets.size_of(node.plate) for node in nodes}
        return {"log_px": found["log_px"] / count, "kl_z": found["kl_z"] / count} | kls

    def bound(name):
        own, value = parts("own"), lambda parts: sum(parts.values()) - 2 * parts["log_px"]
        found = _mean(value(parts(name)), "nats/image", classes, **parts(name))
        found["parts"] |= {} if name == "own" else increase(value(parts(name)), value(own), 1.0, classes)
        return found

    def kl(node):
        found = terms("own")[node.label]
        return _mean(found, f"nats/{NAMES[node.plate]}", classes, per_image=found / sets.size_of(node.plate))

    for name in (name for name, given in evidence.items() if given is not None):
        yield Record("bound", conditions | {"evidence": name}, functools.partial(bound, name))
    for node in nodes:
        yield Record(f"kl_{node.label}", conditions | {"plate": node.plate}, functools.partial(kl, node))
    yield Record("kl_z", conditions, lambda: measured(terms("own")["kl_z"], count, classes))


def _mean(values: np.ndarray, unit: str, classes: np.ndarray | None = None, **parts: np.ndarray) -> dict[str, Any]:
    """Measured fields of means over rows."""
    return measured(values, 1.0, classes, unit, parts={name: float(np.mean(part)) for name, part in parts.items()})


# --- values of latents, and images of values --------------------------------------------------


def shared_values(apply: Apply, encode: Encode, row: Sets, key: jax.Array, *, plate: str, temperature: float) -> Values:
    """A draw of every latent of one plate given the row's images: label -> ``[1, *event]``.

    Args:
      apply, encode, row, key: see `Evaluation.each`; the row's images are the context of every plate.
      temperature: factor on the noise of all latents.
    """
    trace = apply(as_batch(row), Plan(), key, temperature=dict.fromkeys(PLATES, temperature))
    return {latent.label: latent.value[0] for latent in trace.on(plate)}


def from_values(apply: Apply, encode: Encode, row: Values, key: jax.Array, *, shape: Any, temperature: float) -> Values:
    """An image from given values of some shared latents; all other latents come from their prior.

    Args:
      row: label -> ``[1, *event]``, as `shared_values` gives them.

    Returns:
      ``means``, ``draws``: ``[1, H, W, C]`` uint8, 0..255.
    """
    blank, plates = sampling.blank_sets(1, 1, shape), dict.fromkeys(PLATES, temperature)
    trace = apply(blank, PRIOR, key, given=as_batch(row), temperature=plates)
    return pictures.as_bytes(dict(zip(KINDS, sampling.mean_and_draw(trace.px, jax.random.fold_in(key, 1)))))


def _values(run: Evaluation, plate: str, images: np.ndarray, mask: np.ndarray | None = None) -> Values:
    """`shared_values` given rows of images ``[rows, n, H, W, C]``."""
    rows, temperature = jax.tree.map(np.asarray, Sets.of(images, mask)), float(run.options.temperature)
    return run.each(f"shared: values of a {NAMES[plate]}", shared_values, rows, plate=plate, temperature=temperature)


def _images(run: Evaluation, values: Values, rows: int) -> Values:
    """`from_values` of ``rows * n`` values, in [0, 1]: ``[rows, n, H, W, C]``."""
    static = dict(shape=tuple(run.model.image_shape), temperature=float(run.options.temperature))
    found = run.each("shared: images", from_values, values, images_per_row=1, **static)
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


def _styles(run: Evaluation, conditions: dict[str, Any]) -> Records:
    content, others, labels = contents(run)
    shown, which = _of_styles(run, content.shape[1])
    redrawn = functools.cache(lambda: _redrawn(run, content, shown))
    grey = lambda images: features(images.max(-1, keepdims=True))
    recogniser = functools.cache(lambda: Recogniser(grey(others), labels))
    class_of = lambda images: recogniser().scores(grey(images)).argmax(-1)
    style_of = lambda images: _nearest_colour(run, images, which)
    named = conditions | {"set_size": content.shape[1], "style_size": shown.shape[1]}
    file, page = plots.file_name("shared_style_transfer", conditions), lambda: _transfer_page(content, shown, redrawn())
    yield plots.record(run, file, named, page, name="style_transfer")

    def measure(kind, name_of, own, real):
        right, known = name_of(redrawn()[kind]) == own, name_of(real) == np.arange(len(real))[:, None]
        return _mean(right.mean(1), "fraction", real_images=known, chance=1 / len(real))

    rows, columns = np.indices((len(content), len(shown)))
    for kind in KINDS:
        told = named | dict(kind=kind, classifier="mean colour", ways=len(shown), classes=len(content))
        yield Record("style_recognised", told, functools.partial(measure, kind, style_of, columns, shown))
        told = told | dict(classifier=CLASSIFIER, ways=len(content))
        yield Record("content_recognised", told, functools.partial(measure, kind, class_of, rows, content))


def contents(run: Evaluation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Contexts ``[classes, n, H, W, C]``, images in their own styles; other images, and their classes."""
    dataset, rng = run.load(), np.random.default_rng([run.options.seed, 8])
    size = min(run.set_size, int(np.sort(dataset.size)[-2:].min()) - 2)  # two others of two classes at least
    classes = rng.permutation(np.flatnonzero(dataset.size >= size + 2))[: run.options.ways]
    most = min(size + EXAMPLES, int(dataset.size[classes].min()))
    images = _pixels(run, np.stack([dataset.start[c] + rng.permutation(dataset.size[c])[:most] for c in classes]))
    return images[:, :size], np.concatenate(images[:, size:]), np.repeat(np.arange(len(classes)), most - size)


def _of_styles(run: Evaluation, most: int) -> tuple[np.ndarray, np.ndarray]:
    """``[styles, size, H, W, C]``: images of some styles, of any classes; and which styles."""
    style, rng = run.load().style, np.random.default_rng([run.options.seed, 9])
    size = min(run.config.data.style_size, most)
    which = np.sort(rng.permutation(np.flatnonzero(np.bincount(style) >= size))[:COUNT])
    return _pixels(run, np.stack([rng.permutation(np.flatnonzero(style == s))[:size] for s in which])), which


def _redrawn(run: Evaluation, content: np.ndarray, shown: np.ndarray) -> Values:
    """Every content in every style, ``[contents, styles, H, W, C]``: ``means``, ``draws``."""
    rows, columns = np.indices((len(content), len(shown))).reshape(2, -1)
    cells = {label: value[rows] for label, value in _values(run, SET, content).items()}
    cells |= {label: value[columns] for label, value in _values(run, STYLE, shown).items()}
    return _images(run, cells, len(content))


def _transfer_page(content: np.ndarray, shown: np.ndarray, redrawn: Values) -> Image.Image:
    """Styles on top, a column each; below them each row is a content redrawn."""
    top = shown.swapaxes(0, 1)  # [images of a style, styles, ...]
    left = np.concatenate([np.full((len(top), *content.shape[1:]), np.nan), content[:COUNT]])
    new = (np.concatenate([top, redrawn[kind][:COUNT]]) for kind in KINDS)
    return pictures.grid([left, *new], ["content", "style (top), redrawn (below): means", "draws"])


def _nearest_colour(run: Evaluation, images: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Index into the styles ``which`` of each image's style: by the direction of its summed colour."""
    colours = styles.palette(run.load().info["styles"]).colour[which]
    colours = colours / np.linalg.norm(colours, axis=1, keepdims=True)
    return (images.sum((-3, -2)) @ colours.T).argmax(-1)
