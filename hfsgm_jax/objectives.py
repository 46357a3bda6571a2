"""Objectives and estimators: free functions of a `Trace`, written once for the whole family.

All values are float32 nats. M is the number of decoded slots, N of all slots.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hfsgm_jax import tightening
from hfsgm_jax.distributions import Normal, kl
from hfsgm_jax.trace import IMAGE, SET, SHARED_PRIOR, Apply, Given, Latent, Plan, Sets, Trace, take_slots

SUMS = ("loss", "nelbo", "log_px", "kl_c", "kl_z", "count")
CHUNK = 10  # importance samples computed at once


def latent_kl(latent: Latent) -> jax.Array:
    """KL(q || p) per row and slot ``[B, N or 1]``: the sum of `unit_kl` over the event."""
    return _sum_event(unit_kl(latent), latent)


def unit_kl(latent: Latent) -> jax.Array:
    """KL(q || p) of every element of a latent, ``[B, N or 1, ...]``; only to be read where it is ``informed``.

    Analytic between Normals; otherwise log q - log p at the latent's value, which is an unbiased
    estimate when the value was drawn from q.
    """
    if isinstance(latent.posterior, Normal) and isinstance(latent.prior, Normal):
        return kl(latent.posterior, latent.prior)
    return latent.posterior.log_prob(latent.value) - latent.prior.log_prob(latent.value)


def log_ratio(latent: Latent) -> jax.Array:
    """log p - log q at the latent's value, ``[B, N or 1]``; exactly 0 where q is p."""
    return _sum_event(latent.prior.log_prob(latent.value) - latent.posterior.log_prob(latent.value), latent)


def _sum_event(x: jax.Array, latent: Latent) -> jax.Array:
    """``[B, N or 1]`` sums over the event; 0 where nothing informed the latent."""
    x = jnp.broadcast_to(x, jnp.broadcast_shapes(x.shape, latent.value.shape))
    x = x.sum(tuple(range(2, x.ndim)))
    return x if latent.informed is None else jnp.where(latent.informed, x, 0.0)


def counted_slots(trace: Trace, sets: Sets) -> jax.Array:
    """``[B, N]``: the slots whose z is part of the bound.

    Those of images that are context but no target cancel exactly, unless the prior of c sees them.
    """
    return sets.observed if trace.prior_sees_images else sets.target


def set_terms(trace: Trace, sets: Sets) -> dict[str, jax.Array]:
    """``log_px``, ``kl_z``, ``kl_c`` and ``nelbo`` of every whole set, ``[B]`` each; nothing weighted."""
    nothing = jnp.zeros(sets.num_rows, jnp.float32)
    log_px, kl_z = _log_px(trace, sets).sum(1), sum((layer.sum(1) for layer in _kl_z(trace, sets)), nothing)
    kl_c = sum((latent_kl(latent)[:, 0] for latent in trace.shared), nothing)
    return {"log_px": log_px, "kl_z": kl_z, "kl_c": kl_c, "nelbo": kl_z + kl_c - log_px}


def _kl_z(trace: Trace, sets: Sets) -> list[jax.Array]:
    """``[B, N]`` per layer, top first; 0 where the slot does not count."""
    counted = counted_slots(trace, sets)
    return [jnp.where(counted, latent_kl(latent), 0.0) for latent in trace.on(IMAGE)]


def _log_px(trace: Trace, sets: Sets) -> jax.Array:
    """``[B, M]`` log p(x | latents) of the decoded slots; 0 where not a target."""
    images = take_slots(sets.images, trace.decoded)
    return jnp.where(take_slots(sets.target, trace.decoded), trace.px.log_prob(images), 0.0)


def context_share(sets: Sets, plate: str) -> jax.Array:
    """``[B]`` 1/|D|: the KL of a shared latent is spread over the images of its context."""
    return 1.0 / jnp.maximum(sets.context_of(plate).sum(1).astype(jnp.float32), 1.0)


def class_share(sets: Sets, plate: str) -> jax.Array:
    """``[B]`` 1/|X|: the KL of a shared latent is spread over all images that share it (VHE, section 3)."""
    return 1.0 / jnp.maximum(sets.size_of(plate).astype(jnp.float32), 1.0)


def loss_sums(
    trace: Trace,
    sets: Sets,
    *,
    share: Callable[[Sets, str], jax.Array] = context_share,
    alpha: jax.Array | float = 0.0,
    kl_weight: jax.Array | float = 1.0,
    free_bits: float = 0.0,
    gain: jax.Array | None = None,
) -> dict[str, jax.Array]:
    """Sums over target images of the loss and its parts; divide by ``count`` for nats per image.

    loss = (1 + alpha) (-log p(x)) + kl_weight * KL / (1 + alpha), the re-weighted bound of
    SCHA-VAE; alpha = 0 and kl_weight = 1 make it the NELBO (design: the objective under masks).

    Args:
      trace, sets: of one traversal.
      share: the share of a shared latent's KL that each target image carries, `context_share` or `class_share`.
      alpha, kl_weight: traced scalars.
      free_bits: nats per target image that each shared latent has free: it counts max(share * KL, free_bits). Its KL
        is thus free up to ``free_bits * |D|`` nats per set (`context_share`: ``ns``, ``resample``) or
        ``free_bits * |X|`` (`class_share`: ``rescale``, ``vhe``, ``tightened``), D and X being those of its plate.
      gain: ``[B]`` nats by which a tightened bound exceeds this one for the whole class (`tightening.gain`).

    Returns:
      `SUMS`: ``loss`` (differentiable), ``nelbo``, ``log_px``, ``kl_c`` (less the gain), ``kl_z``, ``count``: scalars.
    """
    targets = sets.target.sum(1).astype(jnp.float32)
    log_px = _log_px(trace, sets).sum()
    kl_z = sum(layer.sum() for layer in _kl_z(trace, sets))
    per_image = [share(sets, latent.plate) * latent_kl(latent)[:, 0] for latent in trace.shared]
    floored = [jnp.maximum(value, free_bits) for value in per_image] if free_bits else per_image
    gained = [] if gain is None else [-share(sets, SET) * gain]
    total = lambda values: sum(((targets * value).sum() for value in values), jnp.float32(0))
    kl_c, charged = total(per_image + gained), total(floored + gained)
    loss = -(1 + alpha) * log_px + kl_weight * (kl_z + charged) / (1 + alpha)
    sums = dict(loss=loss, nelbo=kl_z + kl_c - log_px, log_px=log_px, kl_c=kl_c, kl_z=kl_z, count=targets.sum())
    return {name: jnp.asarray(value, jnp.float32) for name, value in sums.items()}


def elbo(trace: Trace, sets: Sets) -> jax.Array:
    """The evidence lower bound of SCHA-VAE, eq. 4: a scalar, nats per target image; its negative is a loss."""
    sums = loss_sums(trace, sets)
    return -sums["nelbo"] / sums["count"]


class Objective(NamedTuple):
    """An objective of training.

    Attributes:
      sums: (trace, sets, *, alpha, kl_weight, free_bits) -> `SUMS`, as `loss_sums`; with ``init`` also ``params``.
      apart: the target images are drawn apart from the context.
      replace: contexts are drawn with replacement.
      init: (key, model, class labels, class sizes) -> parameters of the objective's own.
    """

    sums: Callable[..., dict[str, jax.Array]]
    apart: bool = False
    replace: bool = False
    init: Callable[..., Any] | None = None


def _tightened(trace: Trace, sets: Sets, *, params: Any, **settings: Any) -> dict[str, jax.Array]:
    """Eq. 21 of the VHE paper; without parameters (classes never trained on), the VHE's own bound."""
    gain = None if params is None else tightening.gain(params, trace, sets)
    return loss_sums(trace, sets, share=class_share, gain=gain, **settings)


_whole_class = functools.partial(loss_sums, share=class_share)
OBJECTIVES: dict[str, Objective] = {
    "ns": Objective(loss_sums),
    "resample": Objective(loss_sums, apart=True),
    "rescale": Objective(_whole_class),
    "vhe": Objective(_whole_class, apart=True),
    "tightened": Objective(_tightened, apart=True, replace=True, init=tightening.init),
}


def image_log_weights(trace: Trace, sets: Sets) -> jax.Array:
    """``[B, N]`` log p(x_s, z_s | c) - log q(z_s | x_s, c) of the slots that count, 0 elsewhere; all are decoded."""
    if trace.decoded is not None:
        raise ValueError("the weights of images need a plan with decode='all'")
    return _log_px(trace, sets) + _image_log_ratio(trace, sets)


def _image_log_ratio(trace: Trace, sets: Sets) -> jax.Array:
    """``[B, N]`` log p - log q of z, all layers, of the slots that count."""
    counted = counted_slots(trace, sets)
    ratios = (jnp.where(counted, log_ratio(latent), 0.0) for latent in trace.on(IMAGE))
    return sum(ratios, jnp.zeros(counted.shape, jnp.float32))


def shared_log_ratio(trace: Trace, sets: Sets) -> jax.Array:
    """``[B]`` log p(c) - log q(c | ...) of all shared latents at their values."""
    ratios = (log_ratio(latent)[:, 0] for latent in trace.shared)
    return sum(ratios, jnp.zeros(sets.num_rows, jnp.float32))


def log_weight(trace: Trace, sets: Sets) -> jax.Array:
    """``[B]`` log p(X, Z, c) - log q(Z, c | X) of whole sets, nats, at the trace's values.

    Its mean over traces is the ELBO of the set, its log-mean-exp the importance-weighted bound.
    """
    return _log_px(trace, sets).sum(1) + _image_log_ratio(trace, sets).sum(1) + shared_log_ratio(trace, sets)


def importance_bounds(
    sample_log_weight: Callable[[jax.Array], jax.Array], key: jax.Array, samples: Sequence[int], chunk: int = CHUNK
) -> jax.Array:
    """log 1/K sum_{k <= K} w_k for several K from one pass (Burda et al. 2016, eq. 8).

    Only the log-weights are kept, a number each: memory does not grow with K.

    Args:
      sample_log_weight: key -> ``[...]`` log-weights of one sample, from features encoded once.
      key: sample k draws from ``fold_in(key, k)``, so neither chunk nor the other K change a result.
      samples: the K; all of them use the first ones of the same samples.
      chunk: samples computed at once (vmap); the chunks follow one another.

    Returns:
      ``[len(samples), ...]`` the bounds in nats; their expectations grow with K towards log p.
    """
    most = max(samples)
    draw = lambda k: sample_log_weight(jax.random.fold_in(key, k))
    weights = jax.lax.map(draw, jnp.arange(most), batch_size=min(chunk, most))
    # Not `jax.lax.cumlogsumexp`: its program grows with the logarithm of K, and takes long to compile.
    return jnp.stack([jax.nn.logmeanexp(weights[:k], 0) for k in samples])


def joint_bounds(
    apply: Apply, sets: Sets, key: jax.Array, samples: Sequence[int], *, features: Any = None, chunk: int = CHUNK
) -> jax.Array:
    """log 1/K sum_k p(X, Z_k, c_k) / q(Z_k, c_k | X), the papers' estimator of log p(X).

    Args:
      apply: as `sampling.bind` makes it.
      samples: the K, see `importance_bounds`.
      features: of the images, encoded once.

    Returns:
      ``[len(samples), B]`` nats per set.
    """
    sample = lambda key: log_weight(apply(sets, Plan(), key, features=features), sets)
    return importance_bounds(sample, key, samples, chunk)


def image_bounds(
    apply: Apply, sets: Sets, given: Given, key: jax.Array, samples: int, *, features: Any = None, chunk: int = CHUNK
) -> jax.Array:
    """log 1/K sum_k p(x, z_k | c) / q(z_k | x, c) of every image: ``[B, N]``, nats; 0 in slots that do not count.

    Args:
      given: label -> value ``[B, 1, ...]`` of every shared latent.
      samples: K. Other arguments as `joint_bounds`.
    """
    # Priors as sources: no aggregator runs again for values that are given.
    draw = lambda key: image_log_weights(apply(sets, SHARED_PRIOR, key, given=given, features=features), sets)
    return importance_bounds(draw, key, (samples,), chunk)[0]


def nested_bounds(
    apply: Apply,
    sets: Sets,
    key: jax.Array,
    samples: Sequence[int],
    samples_z: int,
    *,
    features: Any = None,
    chunk: int = CHUNK,
) -> jax.Array:
    """log 1/K sum_i p(c_i) / q(c_i | ...) prod_s [1/Kz sum_j p(x_s, z_j | c_i) / q(z_j | x_s, c_i)].

    Given c the images are independent, so that every image averages over its own z: the variance of
    the log-weights does not add up over the set, as it does in `joint_bounds`. Where q(c_l) sees the
    z of layers above, these are drawn from q as usual and then dropped; with q(z | x, c) as the
    auxiliary density of an extended target they cancel, and what is left is unbiased for p(X).

    Args:
      samples: K over c, several at once.
      samples_z: Kz, of every image and c.
      chunk: pairs of samples computed at once. Other arguments as `joint_bounds`.

    Returns:
      ``[len(samples), B]`` nats per set.

    Raises:
      ValueError: the prior of c depends on the latents of images, which are then not independent.
    """
    chunk_z = min(chunk, samples_z)

    def sample(key):
        key_c, key_z = jax.random.split(key)
        trace = apply(sets, Plan(), key_c, features=features)
        if trace.prior_sees_images:
            raise ValueError("nested importance sampling needs images that are independent given c")
        given = {latent.label: latent.value for latent in trace.shared}
        images = image_bounds(apply, sets, given, key_z, samples_z, features=features, chunk=chunk_z)
        return shared_log_ratio(trace, sets) + images.sum(1)

    return importance_bounds(sample, key, samples, max(1, chunk // chunk_z))
