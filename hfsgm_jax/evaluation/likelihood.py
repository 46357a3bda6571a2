"""NELBO and importance-weighted NLL of sets, per image; how the NLL falls with the number of samples."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hfsgm_jax import objectives, processes
from hfsgm_jax.evaluation import plots
from hfsgm_jax.evaluation.context import Evaluation, EvaluationError, as_batch
from hfsgm_jax.evaluation.records import Record, bits_per_dim, bootstrap_error, read_records
from hfsgm_jax.trace import Plan, Sets

PARTS = ("log_px", "kl_z", "kl_c")


def set_nelbo(apply: Any, encode: Any, row: Sets, key: jax.Array, features: Any = None) -> dict[str, jax.Array]:
    """The NELBO of one whole set from one sample, in nats: divide by its size for "per image".

    Args:
      apply, encode, row, key: see `Evaluation.each`; the set's images are context and target.
      features: what ``encode`` gave, if it has run.

    Returns:
      Float32 scalars ``nelbo`` and its parts ``log_px``, ``kl_z``, ``kl_c``.
    """
    sets = as_batch(row)
    features = encode(sets) if features is None else features
    terms = objectives.terms(apply(sets, Plan(), key, features=features), sets)
    return jax.tree.map(lambda x: x[0], terms.of_sets())


def set_likelihood(
    apply: Any,
    encode: Any,
    row: Sets,
    key: jax.Array,
    *,
    samples: tuple[int, ...],
    estimator: str = "joint",
    samples_z: int = 1,
    chunk: int = 10,
) -> dict[str, jax.Array]:
    """Bounds on the log-likelihood of one whole set, in nats: divide by its size for "per image".

    Images are encoded once, however many importance samples are drawn, and the samples are
    reduced chunk by chunk: memory does not grow with their number.

    Args:
      apply, encode, row, key: see `Evaluation.each`; the set's images are context and target.
      samples: the K of the bounds, all from one pass: of (Z, c) jointly, or of c (``nested``).
      estimator: ``joint`` or ``nested`` (`objectives.joint_bounds`, `objectives.nested_bounds`).
      samples_z: Kz, of every image's z given c (``nested``).
      chunk: importance samples drawn at once.

    Returns:
      What `set_nelbo` does, and ``nll`` ``[len(samples)]``.
    """
    sets = as_batch(row)
    features = encode(sets)
    nelbo_key, bound_key = jax.random.split(key)
    out = set_nelbo(apply, encode, row, nelbo_key, features)
    settings = dict(features=features, chunk=chunk)
    if estimator == "nested":
        bounds = objectives.nested_bounds(apply, sets, bound_key, samples, samples_z, **settings)
    else:
        bounds = objectives.joint_bounds(apply, sets, bound_key, samples, **settings)
    return {**out, "nll": -bounds[:, 0]}


def single_images(sets: Sets) -> Sets:
    """Every image as a set of its own: what a model without set latents is evaluated on."""
    return jax.tree.map(np.asarray, Sets.of(sets.images[np.asarray(sets.observed)][:, None]))


def convergence(num_samples: int) -> tuple[int, ...]:
    """The K at which the bound is reported: 1, 10, 100 ... and ``num_samples``, which is the last."""
    powers = (10**i for i in range(len(str(num_samples))))
    return (*(k for k in powers if k < num_samples), num_samples)


def check(evaluation: Evaluation) -> None:
    """Raises where the sets cannot be drawn or the estimator is none for this model."""
    if evaluation.options.estimator == "nested":
        if not evaluation.shared_nodes:
            raise EvaluationError(
                "eval.estimator='nested' is about latents that a set shares, and model.name="
                f"{evaluation.config.model.name!r} has none; use --eval.estimator=joint"
            )
        if evaluation.model.prior_sees_images:
            raise EvaluationError(
                "eval.estimator='nested' needs images that are independent given c, but here the prior of c depends "
                "on latents of the images (model.prior_sees_images); use --eval.estimator=joint"
            )
    evaluation.check_sets()


def likelihood(evaluation: Evaluation) -> Iterator[tuple[str, Record]]:
    """Yields ``nelbo``, ``nll`` for several K and, for binary images, ``independent_pixels``; nats per image.

    A model without set latents (VAE) is evaluated image by image.
    """
    options, batch = evaluation.options, evaluation.all_sets
    samples = convergence(options.importance_samples)
    static, measured = dict(samples=samples, chunk=options.chunk), {"estimator": options.estimator}
    if options.estimator == "nested":
        static |= dict(estimator="nested", samples_z=options.importance_samples_z)
        measured |= dict(importance_samples_z=options.importance_samples_z)
    sets, conditions = scored(evaluation, evaluation.sets())
    conditions |= evaluation.data_conditions(evaluation.dataset, batch)
    results = evaluation.each("likelihood", set_likelihood, sets, **static)
    yield "nelbo", nelbo_record(results, sets, **conditions)
    for index, k in enumerate(samples):
        yield "nll", per_image(results["nll"][:, index], sets, importance_samples=k, **measured, **conditions)
    path = evaluation.folder / plots.file_name("likelihood", conditions)
    if processes.is_writer():  # from the file that it alone has written
        _draw_convergence(evaluation, conditions, path)
    yield "convergence", {"pictures": [f"eval/{path.name}"], **conditions}
    if evaluation.config.model.likelihood == "bernoulli":
        from hfsgm_jax.data import independent_pixel_nll

        train = evaluation.load("train", evaluation.config.data.source)
        value = independent_pixel_nll(train, batch.images[batch.mask])
        conditions.pop("images_one_by_one", None)
        yield "independent_pixels", {"value": value, "unit": "nats/image", "estimator": "exact", **conditions}


def scored(evaluation: Evaluation, sets: Sets) -> tuple[Sets, dict[str, bool]]:
    """The sets as the model takes them, and a condition if it takes them image by image (a VAE)."""
    if evaluation.shared_nodes:
        return sets, {}
    return single_images(sets), {"images_one_by_one": True}  # a bound per image, whatever the set size


def per_image(totals: np.ndarray, sets: Sets, **conditions: Any) -> Record:
    """The record of nats per set ``[sets]``: their mean per image with its bootstrap error."""
    sizes = sets.observed.sum(1)
    value = float(totals.sum(dtype=np.float64) / sizes.sum())
    out = {"value": value, "unit": "nats/image", "standard_error": bootstrap_error(totals, sizes), **conditions}
    if sets.images.shape[-1] == 3:
        out["bits_per_dim"] = bits_per_dim(value, sets.images.shape[2:])
    return out


def nelbo_record(results: dict[str, np.ndarray], sets: Sets, **conditions: Any) -> Record:
    """The record of what `set_nelbo` gave for every set, with the parts of the bound."""
    parts = {name: float(results[name].sum(dtype=np.float64) / sets.observed.sum()) for name in PARTS}
    return {**per_image(results["nelbo"], sets, estimator="elbo", importance_samples=1, **conditions), "parts": parts}


def estimator_text(record: Record) -> str:
    """How an NLL was estimated: ``"nested, K = 500 over c, 10 over z"``."""
    inner = record.get("importance_samples_z")
    over = f" over c, {inner} over z" if inner else ""
    return f"{record.get('estimator')}, K = {record.get('importance_samples')}{over}"


def _samples(record: Record) -> int:
    """Of an image's z, all in all."""
    return record["importance_samples"] * record.get("importance_samples_z", 1)


def _draw_convergence(evaluation: Evaluation, conditions: dict[str, Any], path: Path) -> None:
    """NLL against the number of samples: a line per estimator that these sets have been evaluated by."""
    same = evaluation.run_conditions | conditions
    found = [r for r in read_records(evaluation.folder / "likelihood.json") if r["name"] == "nll"]
    found = [r for r in found if all(r.get(key) == value for key, value in same.items())]
    lines: dict[str, list[tuple[int, Record]]] = {}
    for record in found:
        inner = record.get("importance_samples_z")
        label = f"nested: K over c, {inner} over z of each image" if inner else "joint: K over c and z together"
        lines.setdefault(label, []).append((_samples(record), record))
    page, (axis,) = plots.figure()
    for label, points in sorted(lines.items()):
        plots.errorbars(axis, points, label=label)
    axis.set(xscale="log", xlabel="importance samples per image (K, times those over z)", ylabel="NLL, nats per image")
    ticks = sorted({x for points in lines.values() for x, _ in points})
    axis.set_xticks(ticks, [f"{x:,}" for x in ticks])
    axis.minorticks_off()
    largest = max((record for points in lines.values() for _, record in points), key=_samples)
    of = "{source} {split}, {num_sets} sets of {set_size}".format(**conditions)
    axis.set_title(f"{of}: {largest['value']:.2f} by {estimator_text(largest)}", fontsize=9)
    axis.legend(fontsize=8)
    plots.save(page, path)
