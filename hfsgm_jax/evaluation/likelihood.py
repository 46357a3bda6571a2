"""NELBO and importance-weighted NLL of sets, per image; how the NLL falls with the number of samples."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from hfsgm_jax import objectives
from hfsgm_jax.data import Dataset, independent_pixel_nll
from hfsgm_jax.distributions import LIKELIHOODS
from hfsgm_jax.errors import ConfigError
from hfsgm_jax.evaluation import plots
from hfsgm_jax.evaluation.base import Arrays, Evaluation
from hfsgm_jax.evaluation.records import Record, Records, measured
from hfsgm_jax.trace import SET, Apply, Encode, Plan, Sets, as_batch

PARTS = ("log_px", "kl_z", "kl_c")
NELBO = {"estimator": "elbo", "importance_samples": 1}  # conditions of a NELBO


def set_nelbo(
    apply: Apply, encode: Encode, row: Sets, key: jax.Array, features: Any = None, given: Any = None
) -> Arrays:
    """The NELBO of one whole set from one sample, in nats: divide by its size for "per image".

    Args:
      apply, encode, row, key: see `Evaluation.each`; by default the set's images are context and target.
      features: result of ``encode``, if it has run.
      given: values of latents, or `Skip`.

    Returns:
      Float32 scalars: ``nelbo`` and its parts ``log_px``, ``kl_z``, ``kl_c``.
    """
    sets = as_batch(row)
    features = encode(sets) if features is None else features
    trace = apply(sets, Plan(), key, given=given, features=features)
    return {name: x[0] for name, x in objectives.set_terms(trace, sets).items()}


def set_likelihood(
    apply: Apply, encode: Encode, row: Sets, key: jax.Array, *, samples: tuple[int, ...], samples_z: int = 0
) -> Arrays:
    """Bounds on the log-likelihood of one whole set, in nats: divide by its size for "per image".

    Images are encoded once, however many importance samples are drawn, and the samples are
    reduced chunk by chunk: memory does not grow with their number.

    Args:
      apply, encode, row, key: see `Evaluation.each`; the set's images are context and target.
      samples: the K of the bounds, all from one pass: of (Z, c) jointly (`objectives.joint_bounds`), or of c.
      samples_z: Kz, of every image's z given c (`objectives.nested_bounds`); 0: jointly.

    Returns:
      The fields of `set_nelbo`, and ``nll`` ``[len(samples)]``.
    """
    sets = as_batch(row)
    features = encode(sets)
    nelbo_key, bound_key = jax.random.split(key)
    if samples_z:
        bounds = objectives.nested_bounds(apply, sets, bound_key, samples, samples_z, features=features)
    else:
        bounds = objectives.joint_bounds(apply, sets, bound_key, samples, features=features)
    return {**set_nelbo(apply, encode, row, nelbo_key, features), "nll": -bounds[:, 0]}


def convergence(num_samples: int) -> tuple[int, ...]:
    """The K at which the bound is reported: 1, 10, 100 ... and ``num_samples``, which is the last."""
    powers = (10**i for i in range(len(str(num_samples))))
    return (*(k for k in powers if k < num_samples), num_samples)


def likelihood(run: Evaluation) -> Records:
    """``nelbo``, ``nll`` for several K and, for binary images, ``independent_pixels``; nats per image.

    A model without set latents (VAE) is evaluated image by image.
    """
    estimator = _estimator(run)
    sets, one_by_one = scored(run, run.sets)
    data = run.data_conditions(run.load(), run.sets)
    conditions, samples = one_by_one | data, convergence(run.options.importance_samples)
    samples_z = estimator.get("importance_samples_z", 0)
    static = dict(samples=samples, samples_z=samples_z)
    results = functools.cache(lambda: run.each("likelihood", set_likelihood, sets, **static))
    yield Record("nelbo", NELBO | conditions, lambda: nelbo_of(results(), sets))
    points = []
    for i, k in enumerate(samples):
        measure = lambda i=i: per_image(results()["nll"][:, i], sets)
        points.append((k, (yield Record("nll", {"importance_samples": k, **estimator, **conditions}, measure))))

    stem, label = ("likelihood_nested", f"nested, K over z {samples_z}") if samples_z else ("likelihood", "joint")
    panels = {"{source} {split}, {num_sets} sets of {set_size}".format(**data): {label: points}}
    draw = functools.partial(plots.lines, panels, xlabel="importance samples K", ylabel="NLL, nats per image")
    yield plots.record(run, stem, estimator | conditions, draw, name="convergence", keep=False)
    yield from independent_pixels(run, data, run.sets, functools.partial(run.load, "train", run.config.data.source))


def _estimator(run: Evaluation) -> dict[str, Any]:
    """Conditions of an NLL; raises where the model does not allow the estimator."""
    if run.options.estimator != "nested":
        return {"estimator": run.options.estimator}
    if not run.model.shared_nodes or run.model.prior_sees_images:
        needs = "latents that a set shares, whose prior does not see its images (model.prior_sees_images=False)"
        raise ConfigError(f"eval.estimator='nested' needs {needs}; use --eval.estimator=joint")
    return {"estimator": "nested", "importance_samples_z": run.options.importance_samples_z}


def scored(run: Evaluation, sets: Sets) -> tuple[Sets, dict[str, bool]]:
    """The sets as the model takes them, and a condition if it takes them image by image (a VAE)."""
    if run.model.shared_nodes:
        return sets, {}
    label = sets.ids[SET].repeat(sets.observed.sum(1))
    single = jax.tree.map(np.asarray, Sets.of(sets.images[sets.observed][:, None], label=label))
    return single, {"images_one_by_one": True}  # a bound per image, whatever the set size


def per_image(totals: np.ndarray, sets: Sets, **more: Any) -> dict[str, Any]:
    """Measured nats of every set ``[sets]``, per image."""
    out = measured(totals, sets.observed.sum(1), sets.ids[SET], **more)
    bits = out["value"] / (math.log(2) * math.prod(sets.images.shape[2:]))
    return out | ({"bits_per_dim": bits} if sets.images.shape[-1] == 3 else {})


def nelbo_of(found: Mapping[str, np.ndarray], sets: Sets) -> dict[str, Any]:
    """Measured NELBO with its parts from results of `set_nelbo` for every set."""
    images = sets.observed.sum()
    terms = {name: float(found[name].sum(dtype=np.float64) / images) for name in PARTS}
    return per_image(found["nelbo"], sets, parts=terms)


def independent_pixels(
    run: Evaluation, conditions: dict[str, Any], sets: Sets, reference: Callable[[], Dataset]
) -> Records:
    """Of binary images: their NLL under independent pixels with the means of a reference data set."""
    if LIKELIHOODS[run.model.likelihood].levels != 2:
        return None
    nll = lambda: independent_pixel_nll(reference(), sets.images[sets.observed])
    measure = lambda: {"value": nll(), "unit": "nats/image"}
    return (yield Record("independent_pixels", {"estimator": "exact", **conditions}, measure))
