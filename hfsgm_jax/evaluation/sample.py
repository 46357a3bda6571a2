"""Samples of unseen classes: pictures of every kind, and numbers of their quality."""

import functools
from typing import Any

import jax
import numpy as np
from PIL import Image

from hfsgm_jax.evaluation import pictures, plots
from hfsgm_jax.evaluation.base import Evaluation
from hfsgm_jax.evaluation.pictures import NEW, ROWS, SHOWN
from hfsgm_jax.evaluation.records import Record, Records
from hfsgm_jax.evaluation.sample_quality import CLASSIFIER, SPACE, Judge, judged
from hfsgm_jax.trace import SET, Sets

CLASSES = 100  # at most, that numbers are computed from
OTHERS = 40  # at most, images of a class beside its context that samples are compared with
FILM_STRIP = (0, 1, 2, 5, 10, 20, 50, 100)  # iterations that the film strip shows


def sample(run: Evaluation) -> Records:
    """A picture of every kind of samples, then numbers.

    Numbers (`sample_quality.Judge.measure`) of conditional, one-pass and refined draws: ``recognised``,
    ``diversity``, ``copying``. A model without context has reconstructions and unconditional samples only.
    Of other data: ``--tasks=sample --eval.source=mnist``.

    Raises:
      UserError: the contexts cannot be drawn.
    """
    run.require_images("sample")
    run.check_sets()
    own = Samples(run)
    for kind in ("reconstruction", *(NEW if run.model.shared_nodes else ()), "unconditional"):
        yield own.picture(kind)
    if run.model.shared_nodes:
        yield own.picture("refinement")
        yield from _numbers(run, own)


def _numbers(run: Evaluation, own: "Samples") -> Records:
    images, mask, num = own.sets.images, own.sets.observed, run.options.samples
    rows = judged(mask, run.set_size)
    if len(rows) < 2:
        print("sample: no numbers: fewer than two classes have two images beside their context", flush=True)
        return
    ways = min(run.options.ways, len(rows))
    judge = functools.cache(lambda: Judge(images[rows], mask[rows], run.set_size, ways))
    numbers = functools.cache(lambda kind: judge().measure(own.drawn[f"{kind}_draws"][rows, :num]))
    distances = ("diversity", "copying") if num > 1 else ("copying",)  # one sample has no pairs
    space = dict.fromkeys(distances, {"distance": SPACE})
    for kind in NEW:
        count = min(num, SHOWN) if kind == "refined" else num
        conditions = dict(kind=kind, classes=len(rows), samples_per_class=count, **own.conditions(kind))
        for name, about in {"recognised": dict(classifier=CLASSIFIER, ways=ways), **space}.items():
            measure = lambda kind=kind, name=name: numbers(kind)[name]
            yield Record(name, about | conditions, measure)


class Samples:
    """One set of each of some test classes, and the samples that the model draws of it.

    Attributes:
      sets: of N + others images: the context, then other images of the class.
      contexts: of N images, the very ones that other evaluations start with.
    """

    def __init__(self, run: Evaluation):
        self._run, dataset, size = run, run.load(), run.set_size
        num = min(CLASSES if run.model.shared_nodes else ROWS, dataset.num_classes, run.options.max_sets or CLASSES)
        self.sets = run.fixed_sets(dataset, min(int(np.max(dataset.size)), size + OTHERS), max_sets=num)
        images, mask = self.sets.images[:, :size], self.sets.observed[:, :size]
        self.contexts = jax.tree.map(np.asarray, Sets.of(images, mask, label=self.sets.ids[SET]))
        self._conditions = {"temperature": run.options.temperature, **run.data_conditions(dataset, self.contexts)}

    @functools.cached_property
    def drawn(self) -> dict[str, np.ndarray]:
        """Results of `pictures.draw_set` of every row, in [0, 1]."""
        options, n = self._run.options, self.contexts.num_slots
        num = max(options.samples, SHOWN)
        static = dict(num=num, num_iterations=options.iterations, temperature=float(options.temperature))
        images = max(n + num, SHOWN * (n + 1))
        drawn = self._run.each("samples", pictures.draw_set, self.contexts, images_per_row=images, **static)
        return {name: images / np.float32(255) for name, images in drawn.items()}

    def conditions(self, kind: str) -> dict[str, Any]:
        """Conditions of a record of samples of one kind."""
        refined = {"iterations": self._run.options.iterations} if kind in ("refined", "refinement") else {}
        return self._conditions | refined

    def picture(self, kind: str) -> Record:
        """A record of the picture of one kind."""
        temperature = self._conditions["temperature"]
        stem = kind if temperature == 1 else f"{kind}_temperature{temperature:g}"
        return plots.record(self._run, stem, self.conditions(kind), lambda: self._page(kind), name=kind)

    def _page(self, kind: str) -> Image.Image:
        """Samples of one kind beside the contexts; of the refinement its iterations, a chain per row."""
        shown = pictures.blank(self.contexts.images, self.contexts.observed)[:ROWS]
        title = "context ({source} {split})".format_map(self._conditions)
        if kind != "refinement":
            return pictures.sample_grid(kind, shown, self.drawn, title)
        last = self._run.options.iterations
        chosen = [t for t in FILM_STRIP if t < last] + [last]
        titles = [title, "conditional", *(f"iteration {t}" for t in chosen[1:])]
        return pictures.grid([shown, *(self.drawn["film"][:ROWS, t, None] for t in chosen)], titles)
