"""A model, unadapted, on the images of other sources over set sizes (SCHA-VAE, figures 6 and 12)."""

import sys
from collections.abc import Iterator
from typing import Any

from hfsgm_jax.evaluation import plots
from hfsgm_jax.evaluation.cardinality import against_size
from hfsgm_jax.evaluation.context import Evaluation, EvaluationError, NotApplicable, sets_of
from hfsgm_jax.evaluation.likelihood import nelbo_record, scored, set_nelbo
from hfsgm_jax.evaluation.records import Record

SPLIT = "test"


def check(evaluation: Evaluation) -> None:
    """Raises for colour models, unknown sources, classes smaller than sets, and where no source is at hand.

    A source that is not at hand while others are is left out, and that is said.
    """
    from hfsgm_jax.data.sources import SOURCES

    if evaluation.config.data.channels != 1:
        raise NotApplicable("transfer is about grey images of characters and digits, and this model's are in colour")
    evaluation.require_images("transfer")
    unknown = [source for source in evaluation.options.transfer if source not in SOURCES]
    if unknown or not evaluation.options.transfer:
        raise EvaluationError(
            f"eval.transfer is {tuple(evaluation.options.transfer)}; it is one or more of {', '.join(SOURCES)}"
        )
    found, missing = _datasets(evaluation)
    for dataset in found:
        evaluation.check_sets(dataset, evaluation.options.set_sizes)
    reasons = "\n".join(f"  {source}: {reason}" for source, reason in missing.items())
    if not found:
        raise EvaluationError(f"none of the sources of eval.transfer is at hand:\n{reasons}")
    if missing:
        print(f"evaluate: transfer goes without sources that are not at hand:\n{reasons}", file=sys.stderr)


def transfer(evaluation: Evaluation) -> Iterator[tuple[str, Record]]:
    """Yields ``nelbo`` per source and set size, and ``independent_pixels`` per source; nats per image.

    The baseline's pixel means are those of the source's own test images, the best that any model of
    independent pixels could do. A model without set latents (VAE) is evaluated image by
    image. For the importance-weighted NLL of a source: ``--tasks=likelihood --eval.source=mnist``.
    """
    from hfsgm_jax.data import independent_pixel_nll

    lines: dict[str, list[tuple[float, Record]]] = {}
    sizes = list(dict.fromkeys(evaluation.options.set_sizes)) if evaluation.shared_nodes else [1]
    for dataset in _datasets(evaluation)[0]:
        source = dataset.info["source"]
        for size in sizes:
            batch = evaluation.fixed_sets(dataset, size)
            sets, conditions = scored(evaluation, sets_of(batch))
            results = evaluation.each(f"{source}, sets of {size}", set_nelbo, sets)
            conditions |= evaluation.data_conditions(dataset, batch)
            record = nelbo_record(results, sets, **conditions)
            lines.setdefault(source, []).append((size, record))
            yield "nelbo", record
        if evaluation.config.model.likelihood == "bernoulli":
            value = independent_pixel_nll(dataset, batch.images[batch.mask])
            lines[f"{source} (independent pixels: {value:.0f})"] = lines.pop(source)
            conditions = evaluation.data_conditions(dataset, batch) | {"estimator": "exact"}
            yield "independent_pixels", {"value": value, "unit": "nats/image", **conditions}
    path = evaluation.folder / f"transfer_{'_'.join(source.split()[0] for source in lines)}.png"
    page, (axis,) = plots.figure()
    for label, points in lines.items():
        plots.errorbars(axis, points, label=label)
    against_size(axis, sizes, f"trained on {evaluation.config.data.source}, not adapted")
    plots.save(page, path)
    yield "figure", {"pictures": [f"eval/{path.name}"], "sources": list(evaluation.options.transfer)}


def _datasets(evaluation: Evaluation) -> tuple[list[Any], dict[str, str]]:
    """The test images of the sources that are at hand, and why others are not."""
    from hfsgm_jax.data import DataError

    found, missing = [], {}
    for source in dict.fromkeys(evaluation.options.transfer):
        try:
            found.append(evaluation.load(SPLIT, source))
        except DataError as error:
            missing[source] = str(error)
    return found, missing
