"""Objectives and estimators: free functions of a `Trace`, written once for the whole family.

All values are float32 nats. M is the number of decoded slots, N of all slots.
"""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp

from hfsgm_jax.distributions import Normal, kl
from hfsgm_jax.trace import IMAGE, Latent, Sets, Trace, take_slots

OBJECTIVES = ("ns", "resample", "rescale", "vhe")
WHOLE_CLASS = ("rescale", "vhe")  # KL_c is shared by |X| images instead of |D|


def latent_kl(latent: Latent) -> jax.Array:
    """KL(q || p) per row and slot ``[B, N or 1]``.

    Analytic between Normals; otherwise log q - log p at the latent's value, which is an unbiased
    estimate when the value was drawn from q.
    """
    if isinstance(latent.posterior, Normal) and isinstance(latent.prior, Normal):
        return _sum_event(kl(latent.posterior, latent.prior), latent)
    return -log_ratio(latent)


def log_ratio(latent: Latent) -> jax.Array:
    """log p - log q at the latent's value, ``[B, N or 1]``; exactly 0 where q is p."""
    return _sum_event(latent.prior.log_prob(latent.value) - latent.posterior.log_prob(latent.value), latent)


def _sum_event(x: jax.Array, latent: Latent) -> jax.Array:
    """``[B, N or 1]`` sums over the event; 0 where nothing informed the latent."""
    x = jnp.broadcast_to(x, jnp.broadcast_shapes(x.shape, latent.value.shape))
    x = x.sum(tuple(range(2, x.ndim)))
    return x if latent.informed is None else jnp.where(latent.informed, x, 0.0)


@flax.struct.dataclass
class Terms:
    """The parts of a bound, nothing weighted yet.

    Attributes:
      log_px: ``[B, M]`` log p(x | latents) of the decoded slots, 0 where not a target.
      kl_z: per layer, top first, ``[B, N]``, 0 where the slot does not count.
      kl_c: (plate, label) -> ``[B]`` per shared latent, in traversal order.
    """

    log_px: jax.Array
    kl_z: tuple[jax.Array, ...]
    kl_c: tuple[jax.Array, ...]
    plates: tuple[str, ...] = flax.struct.field(pytree_node=False, default=())


def counted_slots(trace: Trace, sets: Sets) -> jax.Array:
    """``[B, N]``: the slots whose z is part of the bound.

    Those of images that are context but no target cancel exactly, unless the prior of c sees them.
    """
    return sets.observed if trace.prior_sees_images else sets.target


def terms(trace: Trace, sets: Sets) -> Terms:
    """log p(x | latents) and the KL of every latent, masked (see `Terms`)."""
    log_px = _log_px(trace, sets)
    counted = counted_slots(trace, sets)
    kl_z = tuple(jnp.where(counted, latent_kl(latent), 0.0) for latent in trace.on(IMAGE))
    shared = tuple(latent for latent in trace.latents if latent.plate != IMAGE)
    kl_c = tuple(latent_kl(latent)[:, 0] for latent in shared)
    return Terms(log_px, kl_z, kl_c, tuple(latent.plate for latent in shared))


def _log_px(trace: Trace, sets: Sets) -> jax.Array:
    images = take_slots(sets.images, trace.decoded)
    return jnp.where(take_slots(sets.target, trace.decoded), trace.px.log_prob(images), 0.0)


def set_weight(sets: Sets, plate: str, objective: str) -> jax.Array:
    """``[B]`` w_b: the share of a shared latent's KL that each target image carries.

    1/|D| for ``ns`` and ``resample``, 1/|X| for ``rescale`` and ``vhe`` (VHE, table of section 3).
    """
    size = sets.sizes[plate] if objective in WHOLE_CLASS else sets.context[plate].sum(1)
    return 1.0 / jnp.maximum(size.astype(jnp.float32), 1.0)


def weighted_sums(
    trace: Trace,
    sets: Sets,
    *,
    objective: str = "ns",
    alpha: jax.Array | float = 0.0,
    kl_weight: jax.Array | float = 1.0,
    free_bits: float = 0.0,
) -> dict[str, jax.Array]:
    """Sums over target images of the loss and its parts; divide by ``count`` for nats per image.

    loss = (1 + alpha) (-log p(x)) + kl_weight * KL / (1 + alpha), the re-weighted bound of
    SCHA-VAE; alpha = 0 and kl_weight = 1 make it the NELBO (design: the objective under masks).

    Args:
      trace, sets: of one traversal.
      objective: one of `OBJECTIVES`; decides the weight of KL_c.
      alpha, kl_weight: traced scalars.
      free_bits: nats per image of every shared latent below which its KL costs nothing.

    Returns:
      ``loss`` (differentiable), ``nelbo``, ``log_px``, ``kl_c``, ``kl_z``, ``count``: scalars.
    """
    parts = terms(trace, sets)
    targets = sets.target.sum(1).astype(jnp.float32)
    log_px, kl_z = parts.log_px.sum(), sum(layer.sum() for layer in parts.kl_z)
    per_image = [set_weight(sets, plate, objective) * value for plate, value in zip(parts.plates, parts.kl_c)]
    kl_c = sum(((targets * value).sum() for value in per_image), jnp.float32(0))
    charged = kl_c
    if free_bits:
        charged = sum(((targets * jnp.maximum(value, free_bits)).sum() for value in per_image), jnp.float32(0))
    loss = -(1 + alpha) * log_px + kl_weight * (kl_z + charged) / (1 + alpha)
    nelbo = kl_z + kl_c - log_px
    return dict(loss=loss, nelbo=nelbo, log_px=log_px, kl_c=kl_c, kl_z=kl_z, count=targets.sum())


def log_weight(trace: Trace, sets: Sets) -> jax.Array:
    """``[B]`` log p(X, Z, c) - log q(Z, c | X) of whole sets, nats, at the trace's values.

    Its mean over traces is the ELBO of the set, its log-mean-exp the importance-weighted bound.
    """
    counted = counted_slots(trace, sets)
    total = _log_px(trace, sets).sum(1)
    for latent in trace.latents:
        ratio = log_ratio(latent)
        total += jnp.where(counted, ratio, 0.0).sum(1) if latent.plate == IMAGE else ratio[:, 0]
    return total


def importance_bound(
    sample_log_weight: Callable[[jax.Array], jax.Array], key: jax.Array, num_samples: int, chunk: int = 10
) -> jax.Array:
    """log 1/K sum_k w_k by a streaming logsumexp; memory does not grow with K.

    Args:
      sample_log_weight: key -> ``[B]`` log-weights of one sample, from features encoded once.
      key: sample k draws from ``fold_in(key, k)``, so the chunk does not change the result.
      num_samples: K.
      chunk: samples computed at once (vmap); the chunks follow one another (scan).

    Returns:
      ``[B]`` the bound in nats; its expectation grows with K towards log p(X).
    """
    chunk = min(chunk, num_samples)
    num_chunks = -(-num_samples // chunk)

    def body(carry, first):
        index = first + jnp.arange(chunk)
        weights = jax.vmap(lambda k: sample_log_weight(jax.random.fold_in(key, k)))(index)
        weights = jnp.where((index < num_samples)[:, None], weights, -jnp.inf)
        return jnp.logaddexp(carry, jax.scipy.special.logsumexp(weights, 0)), None

    shape = jax.eval_shape(sample_log_weight, key)
    start = jnp.full(shape.shape, -jnp.inf, jnp.float32)
    total, _ = jax.lax.scan(body, start, jnp.arange(num_chunks) * chunk)
    return total - jnp.log(jnp.float32(num_samples))


def kl_per_layer(trace: Trace, sets: Sets) -> dict[str, jax.Array]:
    """label -> mean KL over rows: nats per set of a shared latent, per target image of z."""
    parts = terms(trace, sets)
    images = jnp.maximum(sets.target.sum(), 1)
    names_z = [latent.label for latent in trace.on(IMAGE)]
    names_c = [latent.label for latent in trace.latents if latent.plate != IMAGE]
    z = {name: value.sum() / images for name, value in zip(names_z, parts.kl_z)}
    c = {name: value.mean() for name, value in zip(names_c, parts.kl_c)}
    return c | z
