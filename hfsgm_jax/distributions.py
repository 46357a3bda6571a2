"""Distributions of latents and pixels: what the models need and nothing more.

Every distribution has ``log_prob(x)``, ``sample(key)`` and ``mean()``. Latent distributions
(`Normal`) keep one value per element: `log_prob` is elementwise and the caller sums the event.
Image distributions (`event_axes` = H, W, C) return log p(x) with the image axes summed, in nats.
All arithmetic is float32 whatever the compute dtype: in bfloat16 a sum of 550 nats rounds to 4.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jax.scipy.stats import logistic, norm

LN2 = math.log(2.0)
LEVELS = 256  # of a grey or colour channel
COMPONENTS = 10  # of a mixture of logistics
LIMIT = 100.0  # of means and standard deviations of latents: images far from the data would let them grow without end
MIN_LOG_SCALE = -7.0  # of a logistic on [-1, 1]: narrower than a twentieth of a grey level
IMAGE_AXES = (-3, -2, -1)


def _f32(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32)


def softplus_scale(raw: jax.Array, floor: float = 1e-3) -> jax.Array:
    """floor + softplus with beta = ln 2, which is 1 at 0 (plus the floor) and never overflows."""
    return floor + jax.nn.softplus(LN2 * _f32(raw)) / LN2


@flax.struct.dataclass
class Normal:
    """Diagonal Gaussian; ``loc`` and ``scale`` (a standard deviation) broadcast together."""

    loc: jax.Array
    scale: jax.Array

    def mean(self) -> jax.Array:
        return self.loc

    def sample(self, key: jax.Array) -> jax.Array:
        return self.at(jax.random.normal(key, jnp.broadcast_shapes(self.loc.shape, self.scale.shape), jnp.float32))

    def at(self, noise: jax.Array, temperature: jax.Array | float | None = None) -> jax.Array:
        """loc + temperature * scale * noise: the sample that standard normal noise gives."""
        return self.loc + self.scale * (noise if temperature is None else temperature * noise)

    def log_prob(self, x: jax.Array) -> jax.Array:
        """Elementwise log density, nats."""
        return norm.logpdf(x, self.loc, self.scale)

    @classmethod
    def standard(cls, shape: tuple[int, ...]) -> "Normal":
        return cls(jnp.zeros(shape, jnp.float32), jnp.ones(shape, jnp.float32))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def limited(x: jax.Array, low: float, high: float) -> jax.Array:
    """``x`` within the limits. Beyond them the gradient still leads back, where that of `jnp.clip` is 0 for good."""
    return jnp.clip(x, low, high)


def _limited_backward(low: float, high: float, x: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    outwards = (x > high) & (g < 0) | (x < low) & (g > 0)
    return (jnp.where(outwards, 0, g),)


limited.defvjp(lambda x, low, high: (limited(x, low, high), x), _limited_backward)


def softplus_normal(params: jax.Array) -> Normal:
    """Mean and raw scale, stacked on the last axis -> a Normal within `LIMIT`; N(0, 1) (plus the floor) at zero."""
    loc, raw = jnp.split(_f32(params), 2, -1)
    return Normal(limited(loc, -LIMIT, LIMIT), limited(softplus_scale(raw), 0.0, LIMIT))


def exp_normal(params: jax.Array) -> Normal:
    """Mean (within `LIMIT`) and log-variance (within 10), stacked on the last axis -> a Normal."""
    loc, log_variance = jnp.split(_f32(params), 2, -1)
    return Normal(limited(loc, -LIMIT, LIMIT), jnp.exp(0.5 * limited(log_variance, -10.0, 10.0)))


# How a network's numbers become a Normal; both are N(0, 1) (softplus: plus the floor) at zero.
NORMALS = {"softplus": softplus_normal, "exp": exp_normal}


def kl(q: Normal, p: Normal) -> jax.Array:
    """Elementwise KL(q || p) of two diagonal Gaussians, nats; exactly 0 where they are equal."""
    ratio = q.scale / p.scale
    shift = (q.loc - p.loc) / p.scale
    return 0.5 * (shift * shift + ratio * ratio - 1.0) - jnp.log(ratio)


def select(mask: jax.Array, a: Any, b: Any) -> Any:
    """``a`` where ``mask`` holds and ``b`` elsewhere, leaf by leaf; ``mask`` is ``[B, N or 1]``."""
    return jax.tree.map(lambda x, y: jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), x, y), a, b)


@flax.struct.dataclass
class Bernoulli:
    """Pixels in {0, 1} (or means in [0, 1]: the expected log-likelihood) from logits [..., H, W, C]."""

    logits: jax.Array

    def mean(self) -> jax.Array:
        return jax.nn.sigmoid(self.logits)

    def sample(self, key: jax.Array) -> jax.Array:
        return jax.random.bernoulli(key, self.mean()).astype(jnp.float32)

    def log_prob(self, x: jax.Array) -> jax.Array:
        """x log p + (1 - x) log(1 - p), summed over the image."""
        return (_f32(x) * self.logits - jax.nn.softplus(self.logits)).sum(IMAGE_AXES)


def _log_levels(
    x: jax.Array, loc: jax.Array, log_scale: jax.Array, cdf: Callable, log_cdf: Callable, log_pdf: Callable
) -> jax.Array:
    """Log-probability of grey levels x in [-1, 1]: the mass of their bins; the outer ones reach to infinity.

    Args:
      loc, log_scale: of a symmetric density, given by ``cdf``, ``log_cdf`` and ``log_pdf`` in its standard form.
    """
    inverse, half = jnp.exp(-log_scale), 1.0 / (LEVELS - 1)
    centred = x - loc
    upper, lower = inverse * (centred + half), inverse * (centred - half)
    difference = cdf(upper) - cdf(lower)
    log_density = log_pdf(inverse * centred) - log_scale + math.log(2 * half)  # where the difference underflows
    # The clamp inside the log keeps the gradient of the branch that is not taken finite.
    inner = jnp.where(difference > 1e-5, jnp.log(jnp.maximum(difference, 1e-12)), log_density)
    outer = log_cdf(jnp.where(x < 0, upper, -lower))
    return jnp.where(jnp.abs(x) > 1.0 - half, outer, inner)


@flax.struct.dataclass
class DiscretizedNormal:
    """256 grey levels in [0, 1], each the Gaussian mass of its bin; the outer bins take the tails.

    Attributes:
      loc, log_scale: [..., H, W, C] on the scale of pixels in [-1, 1].
    """

    loc: jax.Array
    log_scale: jax.Array

    @classmethod
    def from_params(cls, params: jax.Array, channels: int) -> "DiscretizedNormal":
        """Means, then log-scales, of ``[..., H, W, 2 C]``; zeros are about the spread of a photograph's pixels."""
        loc, raw = jnp.split(_f32(params), 2, -1)
        return cls(loc, limited(raw - 1.0, MIN_LOG_SCALE, 5.0))

    def mean(self) -> jax.Array:
        return jnp.clip((self.loc + 1) / 2, 0, 1)

    def sample(self, key: jax.Array) -> jax.Array:
        noise = jax.random.normal(key, self.loc.shape, jnp.float32)
        return _to_level(self.loc + noise * jnp.exp(self.log_scale))

    def log_prob(self, x: jax.Array) -> jax.Array:
        """Log-probability of pixels in [0, 1], rounded to the nearest level, summed over the image."""
        x = _to_level(_f32(x) * 2 - 1) * 2 - 1
        return _log_levels(x, self.loc, self.log_scale, norm.cdf, norm.logcdf, norm.logpdf).sum(IMAGE_AXES)


@flax.struct.dataclass
class DiscretizedLogistics:
    """Mixture of discretised logistics over RGB (or grey) levels, PixelCNN++ form.

    The channels of one mixture component depend on each other linearly: the mean of green moves
    with red, that of blue with red and green.

    Attributes:
      mixture: [..., H, W, M] logits of the components.
      loc, log_scale: [..., H, W, C, M] on the scale of pixels in [-1, 1].
      coupling: [..., H, W, C(C-1)/2, M].
    """

    mixture: jax.Array
    loc: jax.Array
    log_scale: jax.Array
    coupling: jax.Array

    @classmethod
    def num_params(cls, channels: int) -> int:
        """Values per pixel that `from_params` takes: 100 for RGB."""
        return COMPONENTS * (1 + 2 * channels + channels * (channels - 1) // 2)

    @classmethod
    def from_params(cls, params: jax.Array, channels: int) -> "DiscretizedLogistics":
        """Splits ``[..., H, W, num_params]`` into the parts of the mixture."""
        params = _f32(params)
        mixture, rest = params[..., :COMPONENTS], params[..., COMPONENTS:]
        rest = rest.reshape(rest.shape[:-1] + (-1, COMPONENTS))
        coupling = jnp.tanh(rest[..., 2 * channels :, :])
        log_scale = limited(rest[..., channels : 2 * channels, :], MIN_LOG_SCALE, 5.0)
        return cls(mixture, rest[..., :channels, :], log_scale, coupling)

    def _means(self, x: jax.Array) -> jax.Array:
        """Component means given the channels before: x [..., C, 1] in [-1, 1] -> [..., C, M]."""
        loc, coupling, channels = (jnp.unstack(part, axis=-2) for part in (self.loc, self.coupling, x))
        return jnp.stack([_coupled(own, coupling, channels[:i]) for i, own in enumerate(loc)], -2)

    def log_prob(self, x: jax.Array) -> jax.Array:
        """Log-probability of pixels in [0, 1], rounded to the nearest level, summed over the image."""
        x = (_to_level(_f32(x) * 2 - 1) * 2 - 1)[..., None]  # [..., H, W, C, 1]
        standard = jax.nn.sigmoid, jax.nn.log_sigmoid, logistic.logpdf
        per_channel = _log_levels(x, self._means(x), self.log_scale, *standard)
        per_component = per_channel.sum(-2) + jax.nn.log_softmax(self.mixture)
        return jax.scipy.special.logsumexp(per_component, -1).sum((-2, -1))

    def _chain(self, component: jax.Array, noise: jax.Array | float) -> jax.Array:
        """Channels one after another for one-hot components [..., H, W, M]: in [-1, 1].

        Not rounded between channels: within half a level of what `log_prob` conditions on, as in PixelCNN++.
        """
        pick = lambda p: (p * component[..., None, :]).sum(-1)
        parts = pick(self.loc), pick(self.coupling), jnp.exp(pick(self.log_scale)) * noise
        loc, coupling, shift = (jnp.unstack(part, axis=-1) for part in parts)
        channels = []
        for own, shifted in zip(loc, shift):
            channels.append(jnp.clip(_coupled(own, coupling, channels) + shifted, -1, 1))
        return jnp.stack(channels, -1)

    def sample(self, key: jax.Array) -> jax.Array:
        component_key, noise_key = jax.random.split(key)
        index = jax.random.categorical(component_key, self.mixture)
        noise = jax.random.logistic(noise_key, self.loc.shape[:-1])
        return _to_level(self._chain(jax.nn.one_hot(index, self.mixture.shape[-1]), noise))

    def mean(self) -> jax.Array:
        """Mean over components of their chains without noise, in [0, 1]."""
        weights = jax.nn.softmax(self.mixture)
        eye = jnp.eye(self.mixture.shape[-1])
        chains = jax.vmap(lambda row: self._chain(jnp.broadcast_to(row, self.mixture.shape), 0.0))(eye)
        mean = jnp.einsum("...m,m...c->...c", weights, chains)
        return jnp.clip((mean + 1) / 2, 0, 1)


def _coupled(loc: jax.Array, coupling: Sequence[jax.Array], before: Sequence[jax.Array]) -> jax.Array:
    """The mean of a channel given those before it; ``coupling``: of all pairs of channels."""
    first = len(before) * (len(before) - 1) // 2
    for factor, channel in zip(coupling[first:], before):
        loc = loc + factor * channel
    return loc


def _to_level(x: jax.Array) -> jax.Array:
    """[-1, 1] -> the nearest grey level in [0, 1]."""
    return jnp.round(jnp.clip((x + 1) / 2, 0, 1) * (LEVELS - 1)) / (LEVELS - 1)


class Likelihood(NamedTuple):
    """A kind of p(x | latents), made from the decoder's output.

    Attributes:
      num_params: channels of an image -> values per pixel that the decoder puts out.
      make: (``[..., H, W, num_params]``, channels) -> a distribution with ``log_prob``, ``sample``, ``mean``.
      levels: values that a pixel can take: 2, 256, or 0 (any number).
    """

    num_params: Callable[[int], int]
    make: Callable[[jax.Array, int], Any]
    levels: int = 0


LIKELIHOODS: dict[str, Likelihood] = {
    "bernoulli": Likelihood(lambda channels: channels, lambda params, _: Bernoulli(_f32(params)), 2),
    "discretized_normal": Likelihood(lambda channels: 2 * channels, DiscretizedNormal.from_params, LEVELS),
    "discretized_logistics": Likelihood(DiscretizedLogistics.num_params, DiscretizedLogistics.from_params, LEVELS),
}
