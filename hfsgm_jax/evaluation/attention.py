"""Whom the model looks at: weights of the LAG aggregators over the images of a set (SCHA-VAE, figure 4)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from hfsgm_jax.evaluation import plots
from hfsgm_jax.evaluation.context import Evaluation, EvaluationError, NotApplicable, as_batch
from hfsgm_jax.evaluation.kl_layers import resolution
from hfsgm_jax.evaluation.records import Record, bootstrap_error
from hfsgm_jax.trace import Plan, Sets

SHOWN, SHOWN_BY_HEAD = 8, 4  # sets in the pictures
WIDTH = 20  # images side by side


def attention_weights(
    apply: Any, encode: Any, row: Sets, key: jax.Array, *, plates: tuple[str, ...]
) -> dict[str, jax.Array]:
    """Attention weights of one set's context: label -> ``[N, heads]``, which sum to 1 over N.

    At temperature 0: every latent above takes its posterior mean, so that nothing is drawn.

    Args:
      apply, encode, row, key: see `Evaluation.each`.
      plates: those of the model's latents.
    """
    sets = as_batch(row)
    trace = apply(sets, Plan(), key, features=encode(sets), temperature=dict.fromkeys(plates, 0.0))
    return {latent.label: latent.weights[0] for latent in trace.latents if latent.weights is not None}


def check(evaluation: Evaluation) -> None:
    """Raises where the model does not attend, or sets have one image."""
    evaluation.require_context("attention")
    if not _attending(evaluation):
        model = evaluation.config.model
        raise NotApplicable(
            "attention shows the weights of learnable aggregation ('lag'), which no layer of this model has "
            f"(model.name={model.name!r}, model.aggregate={model.aggregate!r})"
        )
    evaluation.check_sets()
    if evaluation.set_size < 2:
        raise EvaluationError(
            "attention compares the images of a set, and eval.set_size=1: one image has all the weight; use 2 or more"
        )


def _attending(evaluation: Evaluation) -> tuple[Any, ...]:
    """The model's latent nodes whose aggregator attends, top first."""
    return tuple(node for node in evaluation.shared_nodes if getattr(node, "aggregate", None) == "lag")


def attention(evaluation: Evaluation) -> Iterator[tuple[str, Record]]:
    """Yields a record per layer of c, top first, its name the label, and two pictures (``figure``).

    The value is the entropy of the weights over log N, averaged over sets and heads: 1 is uniform, the
    mean; 0 is one image alone. ``parts`` holds it per head (``entropy_head1`` ...), ``largest_weight``, the
    mean over sets and heads of the largest one, and ``uniform``, what it would be without attention.
    """
    sets, nodes = evaluation.sets(), _attending(evaluation)
    data = evaluation.data_conditions(evaluation.dataset, evaluation.all_sets)
    plates = tuple(dict.fromkeys(node.plate for node in evaluation.model.nodes))
    weights = evaluation.each("attention", attention_weights, sets, plates=plates)
    sizes = sets.context_of(nodes[0].plate).sum(1)
    several = sizes > 1  # of one image there is nothing to say
    layers = {f"{node.label}  {_map(node)}".rstrip(): weights[node.label] for node in nodes}
    for node in nodes:
        entropy, largest = summary(weights[node.label][several], sizes[several])
        parts = {f"entropy_head{h + 1}": float(value) for h, value in enumerate(entropy.mean(0))}
        parts |= {"largest_weight": float(largest.mean()), "uniform": float((1 / sizes[several]).mean())}
        yield (
            node.label,
            {
                "value": float(entropy.mean()),
                "unit": "of log N",
                "standard_error": bootstrap_error(entropy.mean(1), np.ones(len(entropy))),
                "parts": parts,
                "layer": node.layer,
                "resolution": resolution(node),
                "heads": entropy.shape[1],
                "temperature": 0.0,
                **data,
            },
        )
    by_layer, by_head = (evaluation.folder / plots.file_name(name, data) for name in ("attention", "attention_heads"))
    draw_layers(sets, layers, by_layer)
    draw_heads(sets, layers, by_head)
    yield "figure", {"pictures": [f"eval/{path.name}" for path in (by_layer, by_head)], "temperature": 0.0, **data}


def summary(weights: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Entropy relative to uniform, and the largest weight.

    Args:
      weights: ``[sets, N, heads]``; zero where a slot is no context.
      sizes: ``[sets]`` images of each context, at least 2.

    Returns:
      ``[sets, heads]`` each: the entropy over log(size), in [0, 1]; max of the weights over N.
    """
    weights = weights.astype(np.float64)
    entropy = -(weights * np.log(np.where(weights > 0, weights, 1))).sum(1)
    return entropy / np.log(sizes)[:, None], weights.max(1)


def _map(node: Any) -> str:
    side = resolution(node)
    return "" if side is None else f"{side}×{side}"


# --- the pictures -----------------------------------------------------------------------------


def draw_layers(sets: Sets, layers: dict[str, np.ndarray], path: str | Path) -> None:
    """Per set its images, and beneath them the mean over heads of their weights, a line per layer.

    Args:
      sets: the first are shown.
      layers: name -> ``[sets, N, heads]``, top first.
      path: of the PNG.
    """
    num = min(SHOWN, sets.num_rows)
    panels = [(b, {name: w[b].mean(-1) for name, w in layers.items()}, f"set {b + 1}") for b in range(num)]
    _draw(
        sets,
        panels,
        max(1, min(WIDTH // sets.num_slots, num)),
        "Attention of each layer over the set's images, mean over heads",
        path,
    )


def draw_heads(sets: Sets, layers: dict[str, np.ndarray], path: str | Path) -> None:
    """As `draw_layers`, a set per row and a head per column."""
    num, heads = min(SHOWN_BY_HEAD, sets.num_rows), next(iter(layers.values())).shape[-1]
    panels = [
        (b, {name: w[b, :, h] for name, w in layers.items()}, f"set {b + 1}, head {h + 1}")
        for b in range(num)
        for h in range(heads)
    ]
    _draw(sets, panels, heads, "Attention of each layer and head over the set's images", path)


def _draw(
    sets: Sets, panels: list[tuple[int, dict[str, np.ndarray], str]], columns: int, title: str, path: str | Path
) -> None:
    """Panels of (row of ``sets``, layer -> weights ``[N]``, title) on a page with one colour scale."""
    rows, slots = -(-len(panels) // columns), sets.num_slots
    depth = len(panels[0][1])
    cell = max(0.2, min(0.55, 14 / (columns * slots)))  # inches
    page = Figure(figsize=(columns * (slots * cell + 0.9) + 1.0, rows * (cell + 0.22 * depth + 0.55) + 0.5))
    page.set_layout_engine("constrained")
    page.suptitle(title, fontsize=11)
    grid = page.subplots(2 * rows, columns, squeeze=False, height_ratios=[cell, 0.22 * depth] * rows)
    uniform = 1 / sets.observed.sum(1).max()
    largest = max(w.max() for _, weights, _ in panels for w in weights.values())
    norm = TwoSlopeNorm(uniform, 0.0, max(largest, 2 * uniform))
    for axis in grid.flat:
        axis.set_axis_off()
    for i, (b, weights, name) in enumerate(panels):
        strip, heat = (grid[2 * (i // columns) + part, i % columns] for part in (0, 1))
        _strip(strip, np.asarray(sets.images[b]), np.asarray(sets.observed[b]))
        strip.set_title(name, fontsize=9)
        table = np.stack(list(weights.values()))
        shown = np.where(np.asarray(sets.observed[b]), table, np.nan)
        image = heat.imshow(shown, cmap="RdBu_r", norm=norm, aspect="auto")
        heat.set_axis_on()
        heat.set_xticks([])
        heat.set_yticks(range(depth), weights if i % columns == 0 else [""] * depth, fontsize=8)
        heat.tick_params(length=0)
    bar = page.colorbar(image, ax=grid, shrink=0.6, pad=0.02)
    bar.set_ticks([0, uniform, norm.vmax], labels=["0", f"{uniform:.2g}\nuniform\n(1/N)", f"{norm.vmax:.2g}"])
    bar.ax.set_title("weight", fontsize=10)
    plots.save(page, path)


def _strip(axis: Axes, images: np.ndarray, observed: np.ndarray) -> None:
    """``[N, H, W, C]`` images side by side, as wide as the columns beneath; dark ink on white."""
    n, h, w, channels = images.shape
    pixels = np.where(observed[:, None, None, None], np.clip(images, 0, 1), 0 if channels == 1 else 1)
    flat = pixels.transpose(1, 0, 2, 3).reshape(h, n * w, channels)
    flat = 1 - flat[..., 0] if channels == 1 else flat
    axis.imshow(flat, cmap="gray", vmin=0, vmax=1, aspect="auto", extent=(-0.5, n - 0.5, 1, 0))
    for x in range(n + 1):
        axis.axvline(x - 0.5, color="0.7", linewidth=0.8)
