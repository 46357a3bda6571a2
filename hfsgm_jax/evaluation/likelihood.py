"""NELBO and importance-weighted NLL of sets, per image."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hfsgm_jax import objectives, sampling
from hfsgm_jax.evaluation.context import Evaluation
from hfsgm_jax.evaluation.progress import progress
from hfsgm_jax.evaluation.records import Record, bits_per_dim, bootstrap_error
from hfsgm_jax.trace import IMAGE, Plan, Sets

PARTS = ("log_px", "kl_z", "kl_c")


def _one_set(model: Any, variables: Any, sets: Sets, key: jax.Array, num_samples: int, chunk: int) -> dict:
    """Sums over the images of one set (without the row axis), in nats; see `set_likelihoods`."""
    sets = jax.tree.map(lambda x: x[None], sets)
    apply, encode = sampling.bind(model, variables)
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


@functools.partial(jax.jit, static_argnames=("model", "num_samples", "chunk"))
def set_likelihoods(
    model: Any, variables: Any, sets: Sets, keys: jax.Array, num_samples: int = 0, chunk: int = 10
) -> dict[str, jax.Array]:
    """Bounds on the log-likelihood of whole sets, in nats: divide by the set's size for "per image".

    Each set has its own key, so that its result depends neither on its batch nor on padding rows.
    Images are encoded once, however many importance samples are drawn, and the samples are
    reduced chunk by chunk: memory does not grow with their number.

    Args:
      sets: B sets; their images are context and target.
      keys: ``[B]`` random keys.
      num_samples: K, importance samples of (Z, c) jointly; 0: only the ELBO's terms.
      chunk: importance samples drawn at once.

    Returns:
      ``nelbo`` and its parts ``log_px``, ``kl_z``, ``kl_c`` (one sample), and ``nll`` (K samples):
      ``[B]`` float32 each.
    """
    one = functools.partial(_one_set, model, num_samples=num_samples, chunk=chunk)
    return jax.vmap(one, in_axes=(None, 0, 0))(variables, sets, keys)


def evaluate_sets(
    model: Any, variables: Any, sets: Sets, *, seed: int, num_samples: int, chunk: int, sets_per_batch: int
) -> dict[str, np.ndarray]:
    """`set_likelihoods` of any number of sets, in batches of one shape: ``[num sets]`` each."""
    total = sets.num_rows
    size = min(sets_per_batch, total)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(total))
    starts = range(0, total, size)
    batches = []
    for start in progress(starts, "likelihood"):
        rows = np.minimum(np.arange(start, start + size), total - 1)  # the last batch repeats a row
        batch = jax.tree.map(lambda x, rows=rows: jnp.asarray(np.asarray(x)[rows]), sets)
        batches.append(jax.device_get(set_likelihoods(model, variables, batch, keys[rows], num_samples, chunk)))
    return {name: np.concatenate([b[name] for b in batches])[:total].astype(np.float64) for name in batches[0]}


def likelihood(evaluation: Evaluation) -> Iterator[tuple[str, Record]]:
    """Yields ``nelbo``, ``nll`` and, for binary images, ``independent_pixels``; nats per image.

    A model without set latents (VAE) is evaluated image by image.
    """
    options, sets = evaluation.options, evaluation.sets()
    one_by_one = all(node.plate == IMAGE for node in evaluation.model.nodes)
    if one_by_one:
        sets = Sets.of(sets.images[np.asarray(sets.observed)][:, None])
    results = evaluate_sets(
        evaluation.model,
        evaluation.variables,
        sets,
        seed=options.seed,
        num_samples=options.importance_samples,
        chunk=min(options.chunk, options.importance_samples),
        sets_per_batch=options.sets_per_batch,
    )
    sizes = np.asarray(sets.observed).sum(1)

    def record(totals: np.ndarray, **conditions) -> Record:
        value = float(totals.sum() / sizes.sum())
        out = {"value": value, "unit": "nats/image", "standard_error": bootstrap_error(totals, sizes), **conditions}
        if one_by_one:
            out["images_one_by_one"] = True  # a bound per image, whatever the set size
        if sets.images.shape[-1] == 3:
            out["bits_per_dim"] = bits_per_dim(value, sets.images.shape[2:])
        return out

    parts = {name: float(results[name].sum() / sizes.sum()) for name in PARTS}
    yield "nelbo", {**record(results["nelbo"], estimator="elbo", importance_samples=1), "parts": parts}
    yield "nll", record(results["nll"], estimator="joint", importance_samples=options.importance_samples)
    if evaluation.config.model.likelihood == "bernoulli":
        value = evaluation.independent_pixels()
        yield "independent_pixels", {"value": value, "unit": "nats/image", "estimator": "exact"}
