"""What a model makes of classes it has never seen: pictures, and whether they are recognised."""

from collections.abc import Iterator

import jax
import numpy as np

from hfsgm_jax.evaluation import pictures
from hfsgm_jax.evaluation.context import Evaluation
from hfsgm_jax.evaluation.recognise import WAYS, recognised
from hfsgm_jax.evaluation.records import Record

KINDS = ("reconstruction", "conditional", "one_pass", "refined", "unconditional")


def check(evaluation: Evaluation) -> None:
    """Raises where the contexts cannot be drawn."""
    evaluation.check_sets()


def sample(evaluation: Evaluation) -> Iterator[tuple[str, Record]]:
    """Writes one grid per kind of sample beside its context, and yields where they are.

    Also yields ``recognised``: the share of conditional samples that a classifier names rightly.
    """
    sets = jax.tree.map(lambda x: x[:WAYS], evaluation.sets())
    key = jax.random.key(evaluation.options.seed)
    samples = pictures.draw_samples(evaluation.model, evaluation.variables, sets, key, one_pass=True)
    if "draws" in samples:
        record = recognised(evaluation.dataset, evaluation.all_sets, samples.pop("draws"))
        if record:
            yield "recognised", record | evaluation.data_conditions(evaluation.dataset, evaluation.all_sets)
    sets, samples = jax.tree.map(lambda x: x[: pictures.ROWS], (sets, samples))
    folder = evaluation.folder
    context, mask = np.asarray(sets.images), np.asarray(sets.observed)
    blocks, titles, masks = [context], ["context"], [mask]
    for kind in KINDS:
        if kind not in samples:
            continue
        shown = mask if kind == "reconstruction" else None
        pair = pictures.grid([context, samples[kind]], ["context", kind], [mask, shown], scale=3)
        alone = pictures.grid([samples[kind]], ["unconditional (a row: one imagined class)"], scale=3)
        path = pictures.save(alone if kind == "unconditional" else pair, folder / f"{kind}.png")
        yield kind, {"pictures": [f"eval/{path.name}"]}
        if kind != "unconditional":
            blocks.append(samples[kind])
            titles.append(kind)
            masks.append(shown)
    path = pictures.save(pictures.grid(blocks, titles, masks), folder / "sample.png")
    yield "all", {"pictures": [f"eval/{path.name}"]}
