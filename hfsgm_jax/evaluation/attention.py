"""Attention: weights of the LAG aggregators over the images of a set (SCHA-VAE, figure 4)."""

import functools
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from hfsgm_jax.errors import NotApplicable
from hfsgm_jax.evaluation import plots
from hfsgm_jax.evaluation.base import Arrays, Evaluation, resolution
from hfsgm_jax.evaluation.records import Record, Records, measured
from hfsgm_jax.trace import SET, STILL, Apply, Encode, Plan, Sets, as_batch

SHOWN = 6  # sets in the picture


def attention_weights(apply: Apply, encode: Encode, row: Sets, key: jax.Array) -> Arrays:
    """Attention weights of one set's context: label -> ``[N, heads]``, which sum to 1 over N.

    At temperature 0: every latent above takes its posterior mean, so that nothing is drawn.

    See `Evaluation.each` for the arguments.
    """
    sets = as_batch(row)
    trace = apply(sets, Plan(), key, features=encode(sets), temperature=STILL)
    return {latent.label: latent.weights[0] for latent in trace.latents if latent.weights is not None}


def attention(run: Evaluation) -> Records:
    """A record per layer of c, top first, its name the label, and a picture (``figure``).

    The value is the entropy of the weights over log N, averaged over sets and heads: 1 is uniform, the
    mean; 0 is one image alone. ``parts`` holds it per head (``entropy_head1`` ...).
    """
    run.require_context("attention")
    nodes = [node for node in run.model.shared_nodes if getattr(node, "aggregate", None) == "lag"]
    if not nodes or run.set_size < 2:
        has = f"model.aggregate={run.config.model.get('aggregate')!r} and eval.set_size={run.set_size}"
        raise NotApplicable(f"attention is about the weights that 'lag' gives the images of a set, and here is {has}")
    sets, conditions = run.sets, {"temperature": 0.0, **run.data_conditions(run.load(), run.sets)}
    weights = functools.cache(lambda: run.each("attention", attention_weights, sets))
    for node in nodes:
        layer = {"layer": node.layer, "resolution": resolution(node), "heads": node.heads}
        measure = lambda node=node: _measure(weights()[node.label], sets, node)
        yield Record(node.label, {**layer, **conditions}, measure)

    def picture():
        sides = {node.label: resolution(node) for node in nodes}
        return draw(sets, {f"{x}  {side}×{side}" if side else x: weights()[x] for x, side in sides.items()})

    yield plots.record(run, "attention", conditions, picture)


def _measure(weights: np.ndarray, sets: Sets, node: Any) -> dict[str, Any]:
    """Measured fields of one layer's weights ``[sets, N, heads]``."""
    sizes = node.context(sets).sum(1)
    several = sizes > 1  # of one image there is nothing to say
    found = entropy(weights[several], sizes[several])
    parts = {f"entropy_head{h + 1}": float(value) for h, value in enumerate(found.mean(0))}
    return measured(found.mean(1), 1.0, sets.ids[SET][several], unit="of log N", parts=parts)


def entropy(weights: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Entropy relative to uniform, ``[sets, heads]`` in [0, 1].

    Args:
      weights: ``[sets, N, heads]``; zero where a slot is no context.
      sizes: ``[sets]`` images of each context, at least 2.
    """
    weights = weights.astype(np.float64)
    return -(weights * np.log(np.where(weights > 0, weights, 1))).sum(1) / np.log(sizes)[:, None]


def draw(sets: Sets, layers: dict[str, np.ndarray]) -> Figure:
    """Sets with the weights of their images beneath, a line per layer and head, on one scale of colours.

    Args:
      sets: the first are shown.
      layers: name -> ``[sets, N, heads]``, top first.
    """
    count, lines = min(SHOWN, sets.num_rows), sum(weights.shape[-1] for weights in layers.values())
    names = [name if head == 0 else "" for name, weights in layers.items() for head in range(weights.shape[-1])]
    page = Figure(figsize=(0.5 * sets.num_slots * count + 2, 0.2 * lines + 1.5), layout="constrained")
    page.suptitle("Attention of each layer, a line per head, over the images of a set")
    strips, heats = page.subplots(2, count, squeeze=False, height_ratios=[0.5, 0.2 * lines])
    maps = np.concatenate([weights[:count] for weights in layers.values()], -1)
    for images, weights, strip, heat in zip(sets.images, maps, strips, heats):
        strip.imshow(np.concatenate(images, 1), cmap="gray_r", vmin=0, vmax=1, aspect="auto")  # side by side
        colors = heat.imshow(weights.T, vmin=0, vmax=maps.max(), aspect="auto")
        heat.set(xticks=[], yticks=range(lines), yticklabels=names)
        strip.set_axis_off()
    page.colorbar(colors, ax=heats, label="weight")
    return page
