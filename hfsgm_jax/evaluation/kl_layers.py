"""Information in every layer: KL and active units of c and z (SCHA-VAE, figure 7 right)."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from hfsgm_jax import objectives
from hfsgm_jax.evaluation import plots
from hfsgm_jax.evaluation.base import Arrays, Evaluation, Results, resolution
from hfsgm_jax.evaluation.records import Record, Records, Result, measured
from hfsgm_jax.trace import IMAGE, PLATES, SET, Apply, Encode, Latent, Plan, Sets, as_batch, expand_mask

ACTIVE_VARIANCE = 0.01  # of a unit's posterior mean (Burda et al., 2016, section 5.2)


def layer_statistics(apply: Apply, encode: Encode, row: Sets, key: jax.Array) -> Arrays:
    """KL and posterior means of every latent of one set.

    The KL comes from a traversal that draws every value, as in the NELBO. The means come from one at
    temperature 0: there the mean of a unit is a function of the images alone, so that its variance
    over them holds no noise handed down by the layers above.

    Args:
      apply, encode, row, key: see `Evaluation.each`; the set's images are context and target.

    Returns:
      label + ``/kl``: the sum over the set's images (one value for a shared latent), nats;
      ``/mean``, ``/square``: the same sum for every unit ``[*event]`` of its posterior mean and the square of that.
    """
    sets = as_batch(row)
    features = encode(sets)

    def statistics(temperature):
        trace = apply(sets, Plan(), key, features=features, temperature=dict.fromkeys(PLATES, temperature))
        counted = {IMAGE: objectives.counted_slots(trace, sets)}  # other latents count once
        return {x.label: _sums(x, counted.get(x.plate, jnp.ones((1, 1), bool))) for x in trace.latents}

    out = {}
    for label, (unit_kl, mean, square) in jax.lax.map(statistics, jnp.array([1.0, 0.0])).items():
        out |= {f"{label}/kl": unit_kl[0].sum(), f"{label}/mean": mean[1], f"{label}/square": square[1]}
    return out


def _sums(latent: Latent, mask: jax.Array) -> tuple[jax.Array, ...]:
    """Sums over the slots of ``mask`` of KL, value and squared value of every unit: ``[*event]`` each."""
    informed = mask if latent.informed is None else mask & latent.informed
    value, unit_kl = jnp.broadcast_arrays(latent.value, objectives.unit_kl(latent))
    masked = (informed, unit_kl), (mask, value), (mask, value**2)
    return tuple(jnp.where(expand_mask(m, x.ndim), x, 0).sum((0, 1)) for m, x in masked)


def _summed(batch: Results) -> Results:
    """The KL of every set, and sums over a batch of the values per unit, which are too many to keep."""
    keep = lambda name, x: x.astype(np.float64) if name.endswith("/kl") else x.sum(0, keepdims=True, dtype=np.float64)
    return {name: keep(name, values) for name, values in batch.items()}


def kl_layers(run: Evaluation) -> Records:
    """A record per latent layer, top first, its name the label: KL in nats per image.

    A shared latent's KL is divided by the images of its set (``parts.per_set`` is not). ``parts`` also
    holds the layer's share and the cumulative share, from the top, of its plate's KL, and the active
    units (channels times positions): those whose posterior mean varies over sets or images by more than
    `ACTIVE_VARIANCE`. That also counts a unit that says nothing and whose mean follows the layers above it. Then
    ``kl_c``, the KL of all latents c in nats per set; with ``--eval.split=train`` that of the VHE paper's Table 1.
    """
    data = run.data_conditions(run.load(), run.sets)
    statistics = functools.cache(lambda: run.each("kl_layers", layer_statistics, run.sets, reduce=_summed))
    results = []
    for node in run.model.nodes:
        layer = {"plate": node.plate, "layer": node.layer, "resolution": resolution(node), "estimator": "elbo"}
        measure = functools.partial(_measure_layer, run, node, statistics)
        results.append((yield Record(node.label, {**layer, "active_above": ACTIVE_VARIANCE, **data}, measure)))
    if labels := [node.label for node in run.model.nodes if node.plate == SET]:
        kl = lambda: sum(statistics()[f"{label}/kl"] for label in labels)
        per_set = lambda: measured(kl(), 1.0, run.sets.ids[SET], unit="nats/set")
        yield Record("kl_c", {"estimator": "elbo", **data}, per_set)
    yield plots.record(run, "kl_layers", data, lambda: draw(results), keep=False)


def _measure_layer(run: Evaluation, node: Any, statistics: Callable[[], Results]) -> dict[str, Any]:
    images, kl = run.sets.target.sum(1), statistics()[f"{node.label}/kl"]
    layers = [other.label for other in run.model.nodes if other.plate == node.plate]
    totals = np.array([statistics()[f"{label}/kl"].sum() for label in layers])
    shares, at = totals / (totals.sum() or 1.0), layers.index(node.label)
    count = images.sum() if node.plate == IMAGE else len(images)
    mean, square = (statistics()[f"{node.label}/{field}"].sum(0) / count for field in ("mean", "square"))
    parts = dict(share=float(shares[at]), cumulative_share=float(shares[: at + 1].sum()))
    parts |= dict(units=math.prod(node.event_shape), active_units=int((square - mean**2 > ACTIVE_VARIANCE).sum()))
    per_set = {} if node.plate == IMAGE else {"per_set": float(kl.mean())}
    return measured(kl, images, run.sets.ids[SET], parts=parts | per_set)


def draw(results: Sequence[Result]) -> Figure:
    """KL per layer of c and of z, top first, cumulative KL, and active units."""
    page, (bars, (cumulative, active)) = plots.figure(2, rows=2, width=6.0)
    groups = {"c": [r for r in results if r["plate"] != IMAGE], "z": [r for r in results if r["plate"] == IMAGE]}
    for (letter, found), axis, color in zip(groups.items(), bars, plots.COLORS):
        x, parts = range(len(found)), [result["parts"] for result in found]
        errors = [result["standard_error"] or 0.0 for result in found]
        axis.bar(x, [result["value"] for result in found], yerr=errors, color=color, error_kw=dict(capsize=2))
        axis.set(title=f"latents {letter} of {'a set' if letter == 'c' else 'an image'}", ylabel="KL, nats per image")
        axis.set_xticks(x, [f"{r['name']}\n{r['resolution'] or ''}" for r in found], fontsize=8)
        cumulative.plot(x, [100 * part["cumulative_share"] for part in parts], "o-", color=color, label=letter)
        active.plot(x, [100 * part["active_units"] / part["units"] for part in parts], "o-", color=color, label=letter)
    cumulative.set(title="cumulative KL from the top, % of all of c or z", xlabel="layers above", ylim=(0, 115))
    active.set(title="active units, %", xlabel="layers above", ylim=(0, 115))
    cumulative.legend()
    return page
