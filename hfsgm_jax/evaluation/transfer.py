"""A model, unadapted, on the images of other sources over set sizes (SCHA-VAE, figures 6 and 12)."""

import functools
import sys

from hfsgm_jax.data import Dataset
from hfsgm_jax.errors import DataError, NotApplicable
from hfsgm_jax.evaluation import plots
from hfsgm_jax.evaluation.base import Evaluation
from hfsgm_jax.evaluation.cardinality import LABELS
from hfsgm_jax.evaluation.likelihood import independent_pixels, nelbo_record, scored, set_nelbo
from hfsgm_jax.evaluation.records import Record, Records, Result


def transfer(run: Evaluation) -> Records:
    """``nelbo`` per source and set size, and ``independent_pixels`` per source; nats per image.

    The baseline's pixel means are those of the source's own test images, the best that any model of
    independent pixels could do. A model without set latents (VAE) is evaluated image by
    image. For the importance-weighted NLL of a source: ``--tasks=likelihood --eval.source=mnist``.
    A source that is not at hand while others are is left out, and that is said.
    """
    if run.config.data.channels != 1:
        raise NotApplicable("transfer is about grey images of characters and digits, and this model's are in colour")
    if not run.options.transfer:
        raise NotApplicable("eval.transfer=() names no source of other images")
    run.require_images("transfer")
    datasets = _datasets(run)
    sizes = list(dict.fromkeys(run.options.set_sizes)) if run.shared_nodes else [1]
    lines: dict[str, list[tuple[int, Result]]] = {}
    for source, dataset in datasets.items():
        points = []
        for size in sizes:
            drawn = run.fixed_sets(dataset, size)
            sets, one_by_one = scored(run, drawn)
            conditions = one_by_one | run.data_conditions(dataset, drawn)
            results = functools.partial(run.each, f"{source}, sets of {size}", set_nelbo, sets)
            points.append((size, (yield nelbo_record(conditions, sets, results))))
        label = source
        if run.binary:
            reference = functools.partial(run.load, "test", source)
            result = yield independent_pixels(run.data_conditions(dataset, drawn), drawn, reference)
            label = f"{source} (independent pixels: {result['value']:.0f})"
        lines[label] = points
    path = run.folder / f"transfer_{'_'.join(datasets)}.png"
    panels = {f"trained on {run.config.data.source}, not adapted": lines}
    figure = functools.partial(plots.lines, path, panels, **LABELS)
    yield Record("figure", {"sources": list(run.options.transfer)}, figure, keep=False)


def _datasets(run: Evaluation) -> dict[str, Dataset]:
    """Source -> test images, of the sources that are at hand."""
    found, missing = {}, {}
    for source in run.options.transfer:
        try:
            found[source] = run.load("test", source)
        except DataError as error:
            missing[source] = str(error)
    reasons = "\n".join(f"  {source}: {reason}" for source, reason in missing.items())
    if not found:
        raise DataError(f"none of the sources of eval.transfer is at hand:\n{reasons}")
    if missing:
        print(f"evaluate: transfer goes without sources that are not at hand:\n{reasons}", file=sys.stderr)
    for dataset in found.values():
        run.check_sets(dataset, run.options.set_sizes)
    return found
