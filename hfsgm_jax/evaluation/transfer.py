"""A model, unadapted, on the images of other sources over set sizes (SCHA-VAE, figures 6 and 12)."""

import functools

from hfsgm_jax.errors import DataError, NotApplicable
from hfsgm_jax.evaluation import plots
from hfsgm_jax.evaluation.base import Evaluation
from hfsgm_jax.evaluation.cardinality import LABELS, over_sizes, sets_to_cut
from hfsgm_jax.evaluation.likelihood import independent_pixels
from hfsgm_jax.evaluation.records import Records


def transfer(run: Evaluation) -> Records:
    """``nelbo`` per source and set size (`over_sizes`), and ``independent_pixels`` per source; nats per image.

    The baseline's pixel means are those of the source's own test images, the best that any model of
    independent pixels could do. A model without set latents (VAE) is evaluated image by
    image. For the importance-weighted NLL of a source: ``--tasks=likelihood --eval.source=mnist``.
    A source that is not at hand while others are is left out, and that is said.
    """
    if run.config.data.channels != 1 or not run.options.transfer:
        problem = "this model's are in colour" if run.options.transfer else "eval.transfer=() names no source"
        raise NotApplicable(f"transfer is about grey images of characters and digits, and {problem}")
    run.require_images("transfer")
    names, lines = run.options.transfer, {}
    datasets = run.at_hand("transfer", {name: functools.partial(run.load, "test", name) for name in names})
    if not datasets:
        raise DataError(f"none of the sources of eval.transfer is at hand: {', '.join(names)}")
    sizes = run.options.set_sizes if run.model.shared_nodes else [1]
    for source, dataset in datasets.items():
        whole = sets_to_cut(run, dataset, sizes)
        points = yield from over_sizes(run, source, dataset, whole, sizes)
        reference, data = functools.partial(run.load, "test", source), run.data_conditions(dataset, whole)
        pixels = yield from independent_pixels(run, data, whole, reference)
        lines[source + (f" (independent pixels: {pixels['value']:.0f})" if pixels else "")] = points
    panels = {f"trained on {run.config.data.source}, not adapted": lines}
    draw = functools.partial(plots.lines, panels, **LABELS)
    yield plots.record(run, f"transfer_{'_'.join(datasets)}", {"sources": list(names)}, draw, keep=False)
