"""What a model makes of classes it has never seen: pictures, and how good the samples are."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from hfsgm_jax.evaluation import pictures, plots, sample_quality
from hfsgm_jax.evaluation.context import Evaluation, sets_of
from hfsgm_jax.evaluation.draws import NEW, draw_set
from hfsgm_jax.evaluation.pictures import ROWS
from hfsgm_jax.evaluation.records import Record
from hfsgm_jax.trace import Sets

CLASSES = 100  # at most, that numbers are computed from
OTHERS = 40  # at most, images of a class beside its context that samples are compared with
CHAINS = 8  # at most, refined images per class: a refinement is many traversals
SHOWN = 8  # new images per row of a picture
FEW = 5  # new images of each kind in the picture of all kinds, if not more context images
FILMS = 4  # chains of a row that the animation shows
FILM_STRIP = (0, 1, 2, 5, 10, 20, 50, 100)  # iterations that the film strip shows
TITLES = {"conditional": "conditional", "one_pass": "one pass (eq. 6)", "refined": "refined"}


class Classes(NamedTuple):
    """One set of each of some classes.

    Attributes:
      contexts: as `Sets` of N images.
      images, mask: ``[B, N + others, H, W, C]``, ``[B, N + others]``: the context, then other images.
      conditions: of the data, for records.
    """

    contexts: Sets
    images: np.ndarray
    mask: np.ndarray
    conditions: dict[str, Any]


def check(evaluation: Evaluation) -> None:
    """Raises where the contexts cannot be drawn."""
    evaluation.require_images("sample")
    evaluation.check_sets()


def sample(evaluation: Evaluation) -> Iterator[tuple[str, Record]]:
    """Yields pictures of all kinds of samples, then numbers, then pictures of transfer data.

    Numbers (`sample_quality.Judge.records`) for conditional, one-pass and refined draws: ``recognised``,
    ``diversity``, ``copying``. A model without context has reconstructions and unconditional samples only.
    """
    with_context = bool(evaluation.shared_nodes)
    own = _classes(evaluation, evaluation.dataset, CLASSES if with_context else ROWS)
    samples = _draw(evaluation, own.contexts, "sample")
    yield from _grids(evaluation, own, samples)
    if not with_context:
        return
    yield from _films(evaluation, own, samples)
    yield from _numbers(evaluation, own, samples)
    for source in evaluation.options.transfer:
        if source != own.conditions["source"]:
            yield from _transfer(evaluation, source)


def _classes(evaluation: Evaluation, dataset: Any, num: int) -> Classes:
    """The first sets of ``num`` classes, the very ones that other evaluations start with, and other images."""
    size = evaluation.set_size
    num = min(num, dataset.num_classes, evaluation.options.max_sets or num)
    batch = evaluation.fixed_sets(dataset, min(int(np.max(dataset.size)), size + OTHERS), num)
    contexts = batch._replace(images=batch.images[:, :size], mask=batch.mask[:, :size], member=batch.member[:, :size])
    return Classes(sets_of(contexts), batch.images, batch.mask, evaluation.data_conditions(dataset, contexts))


def _draw(evaluation: Evaluation, contexts: Sets, label: str) -> dict[str, np.ndarray]:
    """What `draw_set` gives of every row, in [0, 1]."""
    options = evaluation.options
    num = max(options.samples, SHOWN)
    chains = min(num, CHAINS)
    static = dict(num=num, chains=chains, shown=SHOWN, films=FILMS, num_iterations=options.iterations)
    images = max(contexts.num_slots + num, chains * (contexts.num_slots + 1))
    samples = evaluation.each(
        label, draw_set, contexts, images_per_row=images, temperature=float(options.temperature), **static
    )
    return {kind: images.astype(np.float32) / 255 for kind, images in samples.items()}


def _conditions(evaluation: Evaluation, kind: str) -> dict[str, Any]:
    """What a record of samples of this kind is keyed by."""
    iterations = {"iterations": evaluation.options.iterations} if kind in ("refined", "refinement") else {}
    return {"kind": kind, "temperature": evaluation.options.temperature, **iterations}


def _grids(evaluation: Evaluation, own: Classes, samples: dict[str, np.ndarray]) -> Iterator[tuple[str, Record]]:
    """A grid per kind (means, and draws for new images), and ``sample.png`` with the means of all."""
    contexts, mask = own.contexts.images[:ROWS], own.contexts.observed[:ROWS]
    means = {kind: samples[kind][:ROWS] for kind in ("reconstruction", *NEW, "unconditional") if kind in samples}
    blocks, titles, masks = [contexts], [_context_title(evaluation, own)], [mask]
    for kind, images in means.items():
        title = TITLES.get(kind, kind)
        if kind == "unconditional":
            page = pictures.grid([images], ["unconditional (a row: one imagined class)"], scale=3)
        elif kind == "reconstruction":
            page = pictures.grid([contexts, images], [titles[0], title], [mask, mask], scale=3)
        else:
            draws = samples[f"{kind}_draws"][:ROWS, :SHOWN]
            names = titles[0], f"{title}: means", "draws"
            page = pictures.grid([contexts, images, draws], names, [mask, None, None])
        yield kind, _picture(evaluation, own, page, kind)
        if kind != "unconditional":
            blocks.append(images[:, : max(FEW, mask.shape[1])] if kind in NEW else images)
            titles.append(title)
            masks.append(mask if kind == "reconstruction" else None)
    yield "all", _picture(evaluation, own, pictures.grid(blocks, titles, masks), "all", "sample")


def _films(evaluation: Evaluation, own: Classes, samples: dict[str, np.ndarray]) -> Iterator[tuple[str, Record]]:
    """The refinement as a film strip, a chain per row, and as an animation."""
    contexts, mask = own.contexts.images[:ROWS], own.contexts.observed[:ROWS]
    film, last = samples["film"][:ROWS], evaluation.options.iterations
    chosen = [t for t in FILM_STRIP if t < last] + [last]
    titles = [_context_title(evaluation, own), "conditional", *(f"iteration {t}" for t in chosen[1:])]
    strip = pictures.grid([contexts, *(film[:, :1, t] for t in chosen)], titles, [mask] + [None] * len(chosen), scale=3)
    record = _picture(evaluation, own, strip, "refinement")

    def page(t):
        return pictures.grid([contexts, film[:, :, t]], [titles[0], f"refined, iteration {t} of {last}"], [mask, None])

    path = pictures.animate([page(t) for t in range(last + 1)], evaluation.folder / "refinement.gif")
    record["pictures"].append(f"eval/{path.name}")
    yield "refinement", record


def _numbers(evaluation: Evaluation, own: Classes, samples: dict[str, np.ndarray]) -> Iterator[tuple[str, Record]]:
    ways = evaluation.options.ways
    try:
        judge = sample_quality.Judge(own.images, own.mask, evaluation.set_size, ways)
    except ValueError as error:
        print(f"sample: no numbers: {error}", flush=True)
        return
    found = []
    for kind in NEW:
        conditions = _conditions(evaluation, kind) | own.conditions
        for name, record in judge.records(samples[f"{kind}_draws"][:, : evaluation.options.samples], conditions):
            found.append((name, record))
            yield name, record
    path = plots.save(sample_quality.plot(found), evaluation.folder / "sample_quality.png")
    yield "quality", {"pictures": [f"eval/{path.name}"], **_conditions(evaluation, "all"), **own.conditions}
    yield from _recognised(evaluation, own, samples, judge)


def _recognised(evaluation: Evaluation, own: Classes, samples: Any, judge: Any) -> Iterator[tuple[str, Record]]:
    """Draws in green frames where they are named rightly among the first classes, in red ones elsewhere."""
    among = judge.rows[: evaluation.options.ways]
    shown = among[:ROWS]
    blocks, frames = [own.contexts.images[shown]], [None]
    titles = [_context_title(evaluation, own)]
    for kind in ("conditional", "refined"):
        draws = samples[f"{kind}_draws"][among][:, :SHOWN]
        rightly = judge.named_rightly(draws, range(len(among)))
        order = np.argsort(~rightly[: len(shown)], 1, kind="stable")
        blocks.append(np.take_along_axis(draws[: len(shown)], order[..., None, None, None], 1))
        frames.append(np.take_along_axis(rightly[: len(shown)], order, 1))
        titles.append(f"{TITLES[kind]}: {rightly.mean():.0%} named rightly (of {len(among)} classes)")
    masks = [own.contexts.observed[shown], None, None]
    yield "recognised_samples", _picture(evaluation, own, pictures.grid(blocks, titles, masks, frames), "recognised")


def _transfer(evaluation: Evaluation, source: str) -> Iterator[tuple[str, Record]]:
    """Conditional and refined samples of another source's test classes; a line where there is none at hand."""
    try:
        dataset = evaluation.load("test", source)
        evaluation.check_sets(dataset)
    except ValueError as error:  # its data are not there, do not fit, or have classes smaller than a set
        print(f"sample: no pictures of {source}: {error}", flush=True)
        return
    if tuple(dataset.image_shape) != tuple(evaluation.config.image_shape):
        print(f"sample: no pictures of {source}: its images are {dataset.image_shape}, the model's "
              f"{tuple(evaluation.config.image_shape)}", flush=True)  # fmt: skip
        return
    other = _classes(evaluation, dataset, ROWS)
    samples = _draw(evaluation, other.contexts, f"sample {source}")
    blocks = [other.contexts.images, samples["reconstruction"], samples["conditional"], samples["refined"]]
    titles = [_context_title(evaluation, other), "reconstruction", "conditional", "refined"]
    mask = other.contexts.observed
    page = pictures.grid(blocks, titles, [mask, mask, None, None])
    yield "transfer", _picture(evaluation, other, page, "refined", f"sample_{source}")


def _context_title(evaluation: Evaluation, classes: Classes) -> str:
    return f"context ({classes.conditions['source']} {classes.conditions['split']})"


def _suffix(evaluation: Evaluation) -> str:
    """Of the names of pictures of other data than the test classes, or at another temperature."""
    options = evaluation.options
    source = options.source if options.source != evaluation.config.data.source else None
    other = [source, None if options.split == "test" else options.split]
    other.append(None if options.temperature == 1 else f"temperature{options.temperature:g}")
    return "".join(f"_{part}" for part in other if part)


def _picture(evaluation: Evaluation, classes: Classes, page: Any, kind: str, name: str = "") -> Record:
    path = pictures.save(page, evaluation.folder / f"{name or kind}{_suffix(evaluation)}.png")
    return {"pictures": [f"eval/{path.name}"], **_conditions(evaluation, kind), **classes.conditions}
