"""NELBO and importance-weighted NLL of sets, per image."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hfsgm_jax import objectives
from hfsgm_jax.evaluation.context import Evaluation, as_batch
from hfsgm_jax.evaluation.records import Record, bits_per_dim, bootstrap_error
from hfsgm_jax.trace import Plan, Sets

PARTS = ("log_px", "kl_z", "kl_c")


def set_likelihood(
    apply: Any, encode: Any, row: Sets, key: jax.Array, *, num_samples: int = 0, chunk: int = 10
) -> dict[str, jax.Array]:
    """Bounds on the log-likelihood of one whole set, in nats: divide by its size for "per image".

    Images are encoded once, however many importance samples are drawn, and the samples are
    reduced chunk by chunk: memory does not grow with their number.

    Args:
      apply, encode, row, key: see `Evaluation.each`; the set's images are context and target.
      num_samples: K, importance samples of (Z, c) jointly; 0: only the ELBO's terms.
      chunk: importance samples drawn at once.

    Returns:
      Float32 scalars: ``nelbo`` and its parts ``log_px``, ``kl_z``, ``kl_c`` (one sample), and
      ``nll`` (K samples).
    """
    sets = as_batch(row)
    features = encode(sets)
    nelbo_key, bound_key = jax.random.split(key)
    terms = objectives.terms(apply(sets, Plan(), nelbo_key, features=features), sets)
    out = {
        "log_px": terms.log_px.sum(1),
        "kl_z": sum((layer.sum(1) for layer in terms.kl_z), jnp.zeros(1)),
        "kl_c": sum(terms.kl_c, jnp.zeros(1)),
    }
    out["nelbo"] = -out["log_px"] + out["kl_z"] + out["kl_c"]
    if num_samples:

        def log_weight(sample_key):
            return objectives.log_weight(apply(sets, Plan(), sample_key, features=features), sets)

        out["nll"] = -objectives.importance_bound(log_weight, bound_key, num_samples, chunk)
    return jax.tree.map(lambda x: x[0], out)


def single_images(sets: Sets) -> Sets:
    """Every image as a set of its own: what a model without set latents is evaluated on."""
    return jax.tree.map(np.asarray, Sets.of(sets.images[np.asarray(sets.observed)][:, None]))


def check(evaluation: Evaluation) -> None:
    """Raises where the sets cannot be drawn."""
    evaluation.check_sets()


def likelihood(evaluation: Evaluation) -> Iterator[tuple[str, Record]]:
    """Yields ``nelbo``, ``nll`` and, for binary images, ``independent_pixels``; nats per image.

    A model without set latents (VAE) is evaluated image by image.
    """
    options, sets = evaluation.options, evaluation.sets()
    data = evaluation.data_conditions(evaluation.dataset, evaluation.all_sets)
    one_by_one = not evaluation.shared_nodes
    if one_by_one:
        sets = single_images(sets)
    samples = options.importance_samples
    static = dict(num_samples=samples, chunk=min(options.chunk, samples))
    results = evaluation.each("likelihood", set_likelihood, sets, **static)
    sizes = sets.observed.sum(1)

    def record(totals: np.ndarray, **conditions) -> Record:
        value = float(totals.sum(dtype=np.float64) / sizes.sum())
        out = {"value": value, "unit": "nats/image", "standard_error": bootstrap_error(totals, sizes), **conditions}
        if one_by_one:
            out["images_one_by_one"] = True  # a bound per image, whatever the set size
        if sets.images.shape[-1] == 3:
            out["bits_per_dim"] = bits_per_dim(value, sets.images.shape[2:])
        return {**out, **data}

    parts = {name: float(results[name].sum(dtype=np.float64) / sizes.sum()) for name in PARTS}
    yield "nelbo", {**record(results["nelbo"], estimator="elbo", importance_samples=1), "parts": parts}
    yield "nll", record(results["nll"], estimator="joint", importance_samples=samples)
    if evaluation.config.model.likelihood == "bernoulli":
        from hfsgm_jax.data import independent_pixel_nll

        images = evaluation.all_sets.images[evaluation.all_sets.mask]
        value = independent_pixel_nll(evaluation.load("train", evaluation.config.data.source), images)
        yield "independent_pixels", {"value": value, "unit": "nats/image", "estimator": "exact", **data}
