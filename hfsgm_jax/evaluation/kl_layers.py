"""How much every layer says: KL and active units of c and z (SCHA-VAE, figure 7 right)."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

from hfsgm_jax import objectives
from hfsgm_jax.evaluation import plots
from hfsgm_jax.evaluation.context import Evaluation, as_batch, sets_of
from hfsgm_jax.evaluation.records import Record, bootstrap_error
from hfsgm_jax.trace import IMAGE, SET, Latent, Plan, Sets, expand_mask

ACTIVE_VARIANCE = 0.01  # of a unit's posterior mean (Burda et al., 2016, section 5.2)
ACTIVE_KL = 0.01  # nats
SLICE = 128  # sets whose values per unit are in memory at once
LABELLED = 12  # bars that have room for their number


def layer_statistics(
    apply: Any, encode: Any, row: Sets, key: jax.Array, *, plates: tuple[str, ...]
) -> dict[str, jax.Array]:
    """KL and posterior means of every latent of one set.

    The KL comes from a traversal that draws every value, as in the NELBO. The means come from one at
    temperature 0: there the mean of a unit is a function of the images alone, so that its variance
    over them holds no noise handed down by the layers above.

    Args:
      apply, encode, row, key: see `Evaluation.each`; the set's images are context and target.
      plates: those of the model's latents.

    Returns:
      label + ``/kl``: the sum over the set's images (one value for a shared latent), nats;
      ``/unit_kl``, ``/mean``, ``/square``: the same sum for every unit ``[*event]`` of its KL, its
      posterior mean and the square of that.
    """
    sets = as_batch(row)
    features = encode(sets)

    def statistics(temperature):
        factors = dict.fromkeys(plates, temperature)
        trace = apply(sets, Plan(), key, features=features, temperature=factors)
        counted = objectives.counted_slots(trace, sets)
        return {latent.label: _sums(latent, counted if latent.plate == IMAGE else None) for latent in trace.latents}

    at = jax.lax.map(statistics, jnp.array([1.0, 0.0]))  # one program for both
    out = {}
    for label, (unit_kl, mean, square) in at.items():
        out[f"{label}/kl"] = unit_kl[0].sum()
        out |= {f"{label}/unit_kl": unit_kl[0], f"{label}/mean": mean[1], f"{label}/square": square[1]}
    return out


def _sums(latent: Latent, counted: jax.Array | None) -> tuple[jax.Array, ...]:
    """Sums over the counted slots of KL, value and squared value of every unit: ``[*event]`` each."""
    mask = jnp.ones((1, 1), bool) if counted is None else counted
    informed = mask if latent.informed is None else mask & latent.informed
    value, unit_kl = jnp.broadcast_arrays(latent.value, objectives.unit_kl(latent))
    masked = (informed, unit_kl), (mask, value), (mask, value**2)
    return tuple(jnp.where(expand_mask(m, x.ndim), x, 0).sum((0, 1)) for m, x in masked)


def context_kl(apply: Any, encode: Any, row: Sets, key: jax.Array) -> dict[str, jax.Array]:
    """``kl_c`` of one set, nats: the KL of all its latents c. See `Evaluation.each`."""
    trace = apply(as_batch(row), Plan(), key)
    return {"kl_c": sum(objectives.latent_kl(latent)[0, 0] for latent in trace.on(SET))}


def check(evaluation: Evaluation) -> None:
    """Raises where the sets cannot be drawn."""
    evaluation.check_sets()


def kl_layers(evaluation: Evaluation) -> Iterator[tuple[str, Record]]:
    """Yields a record per latent layer, top first, its name the label: KL in nats per image.

    A shared latent's KL is divided by the images of its set (``parts.per_set`` is not). ``parts`` also
    holds the layer's share and the cumulative share, from the top, of its plate's KL, and the active
    units (channels times positions) by two counts: ``active_units``, whose posterior mean varies over
    sets or images by more than `ACTIVE_VARIANCE`, and ``active_units_kl``, whose mean KL is above
    `ACTIVE_KL` nats (per set for c, per image for z). The first also counts a unit that says nothing
    and whose mean follows the layers above it; the second does not. Then ``kl_c``, the KL of all latents c in nats
    per set, on ``eval.split`` (the sum of its layers) and on training classes (VHE, Table 1), where they are at hand
    and have sets of that size. The last record, ``figure``, has the picture.
    """
    sets, nodes = evaluation.sets(), evaluation.model.nodes
    kl, units = _all_statistics(evaluation, sets)
    images = sets.target.sum(1)
    data = evaluation.data_conditions(evaluation.dataset, evaluation.all_sets)
    records, cumulative = {}, {}
    for node in nodes:
        plate, per_layer = node.plate, kl[node.label]
        plate_total = sum(kl[other.label].sum() for other in nodes if other.plate == plate)
        cumulative[plate] = cumulative.get(plate, 0.0) + per_layer.sum()
        share, so_far = (float(x / plate_total) if plate_total else 0.0 for x in (per_layer.sum(), cumulative[plate]))
        parts = {"share": share, "cumulative_share": so_far, "units": math.prod(node.event_shape)}
        parts |= _active_units(units[node.label], images.sum() if plate == IMAGE else len(images))
        if plate != IMAGE:
            parts["per_set"] = float(per_layer.mean())
        records[node.label] = {
            "value": float(per_layer.sum() / images.sum()),
            "unit": "nats/image",
            "standard_error": bootstrap_error(per_layer, images),
            "parts": parts,
            "plate": plate,
            "layer": node.layer,
            "resolution": resolution(node),
            "estimator": "elbo",
            "active_above": ACTIVE_VARIANCE,
            "active_kl_above": ACTIVE_KL,
            **data,
        }
        yield node.label, records[node.label]
    if labels := [node.label for node in nodes if node.plate == SET]:
        yield "kl_c", _context_record(sum(kl[label] for label in labels), data)
        yield from _training_record(evaluation)
    path = evaluation.folder / plots.file_name("kl_layers", data)
    draw(records, path)
    yield "figure", {"pictures": [f"eval/{path.name}"], **data}


def _training_record(evaluation: Evaluation) -> Iterator[tuple[str, Record]]:
    """``kl_c`` of training classes, which training charged for; a line instead where there are no such sets."""
    try:
        dataset = evaluation.load("train", evaluation.config.data.source)
        evaluation.check_sets(dataset)
    except ValueError as error:
        print(f"  no kl_c of training classes: {error}")
        return
    if dataset.info == evaluation.dataset.info:
        return
    batch = evaluation.fixed_sets(dataset, evaluation.set_size)
    kl = evaluation.each("KL of c, training classes", context_kl, sets_of(batch))["kl_c"]
    yield "kl_c", _context_record(kl, evaluation.data_conditions(dataset, batch))


def _context_record(kl: np.ndarray, data: Record) -> Record:
    """``kl``: nats of every set ``[sets]``."""
    measured = {"value": float(kl.mean()), "standard_error": bootstrap_error(kl, np.ones(len(kl)))}
    return {**measured, "unit": "nats/set", "estimator": "elbo", **data}


def resolution(node: Any) -> int | None:
    """Side of a latent map in positions; None for a vector."""
    return node.event_shape[0] if len(node.event_shape) == 3 else None


def _all_statistics(evaluation: Evaluation, sets: Sets) -> tuple[dict, dict]:
    """label -> KL of every set ``[sets]``; label -> sums over all sets of what each unit has.

    Slices of the sets follow one another: values per unit of all of them need not fit into memory.
    """
    total, kl, units = sets.num_rows, {}, {}
    plates = tuple(dict.fromkeys(node.plate for node in evaluation.model.nodes))
    count = -(-total // SLICE)
    size = -(-total // count)
    for i in range(count):
        first = min(i * size, total - size)  # all of one size, or they would not share a program
        part = jax.tree.map(lambda x, first=first: x[first : first + size], sets)
        label = "kl_layers" if count == 1 else f"kl_layers {i + 1}/{count}"
        for name, values in evaluation.each(label, layer_statistics, part, plates=plates, first=first).items():
            latent, what = name.split("/")
            values = values[i * size - first :]  # the last one may overlap
            if what == "kl":
                kl.setdefault(latent, []).append(values)
            else:
                sums = units.setdefault(latent, {})
                sums[what] = sums.get(what, 0.0) + values.sum(0, dtype=np.float64)
    return {label: np.concatenate(values).astype(np.float64) for label, values in kl.items()}, units


def _active_units(sums: dict[str, np.ndarray], count: int) -> dict[str, int]:
    variance = sums["square"] / count - (sums["mean"] / count) ** 2
    return {
        "active_units": int((variance > ACTIVE_VARIANCE).sum()),
        "active_units_kl": int((sums["unit_kl"] / count > ACTIVE_KL).sum()),
    }


# --- the picture ------------------------------------------------------------------------------


def draw(records: dict[str, Record], path: Any) -> None:
    """KL per layer of c and of z, cumulative KL, and active units: ``records`` by label, top first."""
    page, axes = plots.figure(2, rows=2, width=6.0)
    kinds = {"set latents c": {}, "image latents z": {}}
    for label, record in records.items():
        kinds["image latents z" if record["plate"] == IMAGE else "set latents c"][label] = record
    per_layer, curves = axes
    for axis, (title, found), color in zip(per_layer, kinds.items(), plots.COLORS):
        axis.set_title(title)
        if not found:
            axis.text(0.5, 0.5, "this model has none", ha="center", transform=axis.transAxes)
            axis.set_axis_off()
            continue
        _bars(axis, found, color)
        parts, x = [record["parts"] for record in found.values()], range(len(found))
        curves[0].plot(x, [100 * part["cumulative_share"] for part in parts], "o-", color=color, label=title)
        for key, style in (("active_units", "o-"), ("active_units_kl", "s:")):
            share = [100 * part[key] / part["units"] for part in parts]
            what = "mean varies" if key == "active_units" else f"KL > {ACTIVE_KL} nats"
            curves[1].plot(x, share, style, color=color, label=f"{title[-1]}, {what}")
    longest = max(kinds.values(), key=len)
    for axis, title in zip(curves, ("cumulative KL from the top, % of all of c or z", "active units, %")):
        axis.set_title(title)
        axis.set_ylim(0, 1.15 * axis.get_ylim()[1])
        _layer_axis(axis, longest, [str(record["layer"]) for record in longest.values()])
        axis.set_xlabel("layer")
        axis.legend(fontsize=8)
    curves[0].set_yticks(range(0, 101, 20))
    plots.save(page, path)


def _bars(axis: Axes, found: dict[str, Record], color: str) -> None:
    values, errors = ([record[key] for record in found.values()] for key in ("value", "standard_error"))
    errors = None if None in errors else errors
    bars = axis.bar(range(len(found)), values, yerr=errors, color=color, error_kw=dict(ecolor="0.3", capsize=2))
    if len(found) <= LABELLED:
        axis.bar_label(bars, [f"{value:.2g}" for value in values], padding=2, fontsize=8)
        axis.margins(y=0.15)
    axis.set_ylabel("KL, nats per image")
    _layer_axis(axis, found, list(found))


def _layer_axis(axis: Axes, found: dict[str, Record], names: list[str]) -> None:
    """Names the layers, top first, and shades every other resolution."""
    axis.set_xticks(range(len(found)), names)
    axis.set_xlim(-0.6, len(found) - 0.4)
    axis.grid(False, axis="x")
    sides = [record["resolution"] for record in found.values()]
    for i, side in enumerate(dict.fromkeys(side for side in sides if side is not None)):
        first, last = sides.index(side), len(sides) - 1 - sides[::-1].index(side)
        if i % 2 == 0:
            axis.axvspan(first - 0.5, last + 0.5, color="0.94", zorder=0)
        where = dict(ha="center", va="top", transform=axis.get_xaxis_transform())
        axis.text((first + last) / 2, 1.0, f"{side}×{side}", fontsize=8, color="0.4", **where)
