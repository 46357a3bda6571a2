"""What the hierarchy over c is worth: the bound as its layers and resolutions are taken away (figure 7)."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

from hfsgm_jax import objectives
from hfsgm_jax.evaluation import plots
from hfsgm_jax.evaluation.context import Evaluation, as_batch
from hfsgm_jax.evaluation.kl_layers import resolution
from hfsgm_jax.evaluation.likelihood import PARTS
from hfsgm_jax.evaluation.records import Record, bootstrap_error
from hfsgm_jax.trace import SET, SOURCES, Plan, Sets

WAYS = {"prior": "from its prior (a bound)", "skip": "skipped (not a bound)"}
LINEAR_BELOW = 3.0  # relative NELBO that a linear axis still shows well
Layers = tuple[int, ...]  # positions in the traversal, 0 at the top, in order


class Curves(NamedTuple):
    """What is bypassed at each point of each curve: positions of set latents, 0 at the top.

    Attributes:
      lowest_first: the k layers nearest to the images, k = 0 ... L: the context depth shrinks from below,
        as in figure 7 left.
      highest_first: the k layers at the top.
      coarsest: the resolutions above the k-th, highest first: what is left is the coarse context, as in
        figure 7 middle; empty where there is one resolution.
      alone: one resolution each, lowest first.
    """

    lowest_first: tuple[Layers, ...]
    highest_first: tuple[Layers, ...]
    coarsest: tuple[Layers, ...]
    alone: tuple[Layers, ...]

    @classmethod
    def of(cls, resolutions: tuple[int | None, ...]) -> "Curves":
        """The curves of a model whose set latents have these resolutions, top first."""
        total = len(resolutions)
        everything, distinct = tuple(range(total)), tuple(dict.fromkeys(resolutions))
        coarsest = alone = ()
        if len(distinct) > 1:
            coarsest = tuple(
                tuple(i for i in everything if distinct.index(resolutions[i]) >= kept)
                for kept in range(len(distinct), -1, -1)
            )
            alone = tuple(tuple(i for i in everything if resolutions[i] == r) for r in distinct)
        lowest = tuple(everything[total - k :] for k in range(total + 1))
        return cls(lowest, tuple(everything[:k] for k in range(total + 1)), coarsest, alone)

    def distinct(self) -> tuple[Layers, ...]:
        """Every set of bypassed layers once; the empty one first."""
        return tuple(dict.fromkeys(layers for curve in self for layers in curve))


def bypassed_terms(
    apply: Any, encode: Any, row: Sets, key: jax.Array, *, labels: tuple[str, ...], choices: tuple[tuple[int, ...], ...]
) -> dict[str, jax.Array]:
    """The NELBO's terms of one set, once per choice of where its shared latents come from.

    The images are encoded once and all choices share their noise, so that their differences are
    sharper than their values. Choices are data of one compiled traversal, not a program each.

    Args:
      apply, encode, row, key: see `Evaluation.each`; the set's images are context and target.
      labels: the shared latents that are chosen for.
      choices: one or more, each an index into `trace.SOURCES` per label.

    Returns:
      ``log_px``, ``kl_z``, ``kl_c``: ``[choices]`` float32, nats per set.
    """
    sets = as_batch(row)
    features = encode(sets)

    def traverse(choice):
        row_sources = {label: choice[i][None] for i, label in enumerate(labels)}
        terms = objectives.terms(apply(sets, Plan(), key, features=features, row_sources=row_sources), sets)
        return {
            "log_px": terms.log_px.sum(),
            "kl_z": sum(layer.sum() for layer in terms.kl_z),
            "kl_c": sum(layer.sum() for layer in terms.kl_c),
        }

    return jax.lax.map(traverse, jnp.asarray(choices, jnp.int32))


def check(evaluation: Evaluation) -> None:
    """Raises where the model has no shared latents, or the sets cannot be drawn."""
    evaluation.require_context("context_bypass")
    evaluation.check_sets()


def context_bypass(evaluation: Evaluation) -> Iterator[tuple[str, Record]]:
    """Yields ``nelbo`` for every set of bypassed layers of c, and a ``figure``; z is left as it is.

    A bypassed layer's value comes from its prior (``bypass: prior``: its KL is 0, the result is still a
    bound) or contributes nothing, with its residual and KL (``skip``, ``bound: false``: the bound of
    another model than the one trained). ``parts`` holds the bound's terms, ``relative`` (NELBO over that
    of the full model, the paper's normalisation) and ``increase`` over the full model with its standard
    error, which is the smaller for noise and sets being the same.
    """
    nodes, sets = tuple(node for node in evaluation.shared_nodes if node.plate == SET), evaluation.sets()
    labels = tuple(node.label for node in nodes)
    curves = Curves.of(tuple(resolution(node) for node in nodes))
    cases = {("none", ()): (0,) * len(nodes)}
    for way in WAYS:
        for off in curves.distinct()[1:]:
            cases[way, off] = tuple(SOURCES.index(way) if i in off else 0 for i in range(len(nodes)))
    static = dict(labels=labels, choices=tuple(cases.values()))
    results = evaluation.each("context_bypass", bypassed_terms, sets, **static)
    results = {name: values.astype(np.float64) for name, values in results.items()}
    nelbo = results["kl_z"] + results["kl_c"] - results["log_px"]
    sizes = sets.target.sum(1)
    data = evaluation.data_conditions(evaluation.dataset, evaluation.all_sets)
    records = {}
    for i, (way, off) in enumerate(cases):
        parts = {name: float(results[name][:, i].sum() / sizes.sum()) for name in PARTS}
        if off:
            more = nelbo[:, i] - nelbo[:, 0]
            parts |= {"relative": float(nelbo[:, i].sum() / nelbo[:, 0].sum())}
            parts |= {"increase": float(more.sum() / sizes.sum()), "increase_error": bootstrap_error(more, sizes)}
        records[way, off] = {
            "value": float(nelbo[:, i].sum() / sizes.sum()),
            "unit": "nats/image",
            "standard_error": bootstrap_error(nelbo[:, i], sizes),
            "parts": parts,
            "bypassed": _span([labels[j] for j in off]),
            "bypass": way,
            "bound": way != "skip",
            "active_layers": len(nodes) - len(off),
            "active_resolutions": _sides(nodes, off),
            "estimator": "elbo",
            "importance_samples": 1,
            **data,
        }
        yield "nelbo", records[way, off]
    path = evaluation.folder / plots.file_name("context_bypass", data)
    draw(records, curves, [resolution(node) for node in nodes], path)
    yield "figure", {"pictures": [f"eval/{path.name}"], **data}


def _span(labels: list[str]) -> str:
    """Neighbouring labels, top first, as ``c1-c3``, low to high."""
    return "none" if not labels else labels[0] if len(labels) == 1 else f"{labels[-1]}-{labels[0]}"


def _sides(nodes: tuple[Any, ...], off: Layers) -> str | None:
    """Resolutions of which a layer is left, high to low; None for vectors."""
    if resolution(nodes[0]) is None:
        return None
    sides = {resolution(node) for i, node in enumerate(nodes) if i not in off}
    return ",".join(str(side) for side in sorted(sides, reverse=True))


# --- the picture ------------------------------------------------------------------------------


def draw(records: dict[tuple[str, Layers], Record], curves: Curves, resolutions: list[int | None], path: Any) -> None:
    """NELBO relative to the full model over context depth and, where there are several, resolutions.

    Args:
      records: of ``(way, bypassed layers)``; the full model's is ``("none", ())``.
      curves: what was bypassed.
      resolutions: of the set latents, top first.
      path: of the PNG.
    """
    page, axes = plots.figure(3 if curves.alone else 1, width=4.6 if curves.alone else 6.5, height=4.2, sharey=True)
    full = records["none", ()]["value"]

    def points(way, curve):
        """Relative NELBO along a curve, and the standard error of its difference from 1."""
        found = [records[(way, off) if off else ("none", ())] for off in curve]
        errors = [(record["parts"].get("increase_error") or 0.0) / full for record in found]
        return [record["value"] / full for record in found], errors

    depth, total = axes[0], len(resolutions)
    for way, color in zip(WAYS, plots.COLORS):
        for curve, style, order in ((curves.lowest_first, "o-", "lowest"), (curves.highest_first, "s:", "top")):
            active = [total - len(off) for off in curve]
            label = f"{order} first, {WAYS[way]}"
            depth.errorbar(active, *points(way, curve), fmt=style, color=color, label=label, capsize=2, markersize=5)
    depth.set(title="layers of c removed", xlabel="active layers of c", xticks=range(total + 1))
    depth.set_ylabel("NELBO / that of the full model")
    if curves.alone:
        sides = list(dict.fromkeys(resolutions))
        kept = [",".join(map(str, sides[:k][::-1])) or "none" for k in range(len(sides), -1, -1)]
        _bars(axes[1], kept, {way: points(way, curves.coarsest) for way in WAYS})
        axes[1].set(title="highest resolutions of c removed", xlabel="active resolutions of c")
        _bars(axes[2], [str(side) for side in sides], {way: points(way, curves.alone) for way in WAYS})
        axes[2].set(title="one resolution of c removed", xlabel="the resolution removed")
    relative = [record["value"] / full for record in records.values()]
    reach = [v + (r["parts"].get("increase_error") or 0.0) / full for v, r in zip(relative, records.values())]
    for axis in axes:
        axis.axhline(1, color="0.5", linewidth=1)
        axis.set_yscale("log" if max(relative) > LINEAR_BELOW else "linear")
        axis.set_ylim(*_limits(relative + reach))
    page.suptitle(f"full model: {full:.1f} nats per image", fontsize=10)
    handles, names = depth.get_legend_handles_labels()
    page.legend(handles, names, loc="outside lower center", ncols=4 if curves.alone else 2, fontsize=8)
    plots.save(page, path)


def _limits(values: list[float]) -> tuple[float, float]:
    """A little more than the values span: the differences are what is shown."""
    low, high = min(values), max(values)
    margin = 0.08 * max(high - low, 1e-3)
    return low - min(margin, low / 2), high + margin


def _bars(axis: Axes, names: list[str], ways: dict[str, tuple[list[float], list[float]]]) -> None:
    """Groups of bars that rise from 1, one colour per way."""
    width = 0.38
    for i, ((values, errors), color) in enumerate(zip(ways.values(), plots.COLORS)):
        x = np.arange(len(names)) + (i - 0.5) * width
        error_bars = dict(yerr=errors, error_kw=dict(ecolor="0.3", capsize=2))
        axis.bar(x, np.asarray(values) - 1, width, bottom=1, color=color, **error_bars)
    axis.set_xticks(range(len(names)), names)
    axis.grid(False, axis="x")
