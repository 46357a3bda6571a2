"""Likelihoods of single numbers: five families, each a distribution that `hfsgm_jax` takes like those of images.

A number is an image ``[..., 1, 1, 1]``; as of every likelihood, ``log_prob`` sums the image axes. Parameters
``[..., 1, 1, num_params]`` are a linear map of c; those that have to be positive pass through a softplus.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from hfsgm_jax.distributions import IMAGE_AXES, LIKELIHOODS, Likelihood, Normal

VALUES = 8  # of the discrete family: 1 ... 8
MIN_POSITIVE = 1e-3
PROPOSALS = 64  # of the rejection sampler, which takes more than half of them


@flax.struct.dataclass
class Gaussian:
    """N(loc, scale^2)."""

    loc: jax.Array
    scale: jax.Array

    def mean(self) -> jax.Array:
        return self.loc

    def sample(self, key: jax.Array) -> jax.Array:
        return Normal(self.loc, self.scale).sample(key)

    def log_prob(self, x: jax.Array) -> jax.Array:
        return Normal(self.loc, self.scale).log_prob(x).sum(IMAGE_AXES)


@flax.struct.dataclass
class GaussianMixture:
    """The even mixture of N(loc - gap / 2, scale^2) and N(loc + gap / 2, scale^2)."""

    loc: jax.Array
    scale: jax.Array
    gap: jax.Array

    def mean(self) -> jax.Array:
        return self.loc

    def sample(self, key: jax.Array) -> jax.Array:
        side_key, key = jax.random.split(key)
        side = jax.random.rademacher(side_key, self.loc.shape, jnp.float32)
        return Normal(self.loc + side * self.gap / 2, self.scale).sample(key)

    def log_prob(self, x: jax.Array) -> jax.Array:
        low, high = (Normal(self.loc + side * self.gap / 2, self.scale).log_prob(x) for side in (-1, 1))
        return (jnp.logaddexp(low, high) - math.log(2)).sum(IMAGE_AXES)


@flax.struct.dataclass
class VonMises:
    """Angles in [-pi, pi] with density exp(concentration cos(x - loc)) / (2 pi I_0(concentration))."""

    loc: jax.Array
    concentration: jax.Array

    def mean(self) -> jax.Array:
        """The mean direction."""
        return self.loc

    def sample(self, key: jax.Array) -> jax.Array:
        """Rejection from a wrapped Cauchy (Best and Fisher, 1979); the first accepted of many proposals."""
        k = self.concentration[..., None]
        r = 1 + jnp.sqrt(1 + 4 * k**2)
        rho = (r - jnp.sqrt(2 * r)) / (2 * k)
        s = (1 + rho**2) / (2 * rho)
        shape = (*jnp.broadcast_shapes(self.loc.shape, self.concentration.shape), PROPOSALS)
        u, v, side = jax.random.uniform(key, (3, *shape))
        cos = jnp.cos(jnp.pi * u)
        f = (1 + s * cos) / (s + cos)
        c = k * (s - f)
        accepted = jnp.log(c / jnp.maximum(v, 1e-30)) + 1 - c >= 0
        f = jnp.take_along_axis(f, accepted.argmax(-1, keepdims=True), -1)[..., 0]
        x = self.loc + jnp.where(side[..., 0] < 0.5, -1, 1) * jnp.arccos(jnp.clip(f, -1, 1))
        return jnp.mod(x + jnp.pi, 2 * jnp.pi) - jnp.pi

    def log_prob(self, x: jax.Array) -> jax.Array:
        k = self.concentration
        log_i0 = jnp.log(jax.scipy.special.i0e(k)) + k
        return (k * jnp.cos(x - self.loc) - log_i0 - math.log(2 * math.pi)).sum(IMAGE_AXES)


@flax.struct.dataclass
class Gamma:
    """Positive numbers with density rate^shape x^(shape - 1) exp(-rate x) / Gamma(shape)."""

    shape: jax.Array
    rate: jax.Array

    def mean(self) -> jax.Array:
        return self.shape / self.rate

    def sample(self, key: jax.Array) -> jax.Array:
        return jax.random.gamma(key, self.shape) / self.rate

    def log_prob(self, x: jax.Array) -> jax.Array:
        log_x = jnp.log(jnp.maximum(x, jnp.finfo(jnp.float32).tiny))  # what is no image may hold a 0
        norm = self.shape * jnp.log(self.rate) - jax.scipy.special.gammaln(self.shape)
        return (norm + (self.shape - 1) * log_x - self.rate * x).sum(IMAGE_AXES)


@flax.struct.dataclass
class Discrete:
    """Integers 1 ... 8 by ``logits`` ``[..., 1, 1, 8]``."""

    logits: jax.Array

    def mean(self) -> jax.Array:
        return (jax.nn.softmax(self.logits) * jnp.arange(1, VALUES + 1)).sum(-1, keepdims=True)

    def sample(self, key: jax.Array) -> jax.Array:
        return jax.random.categorical(key, self.logits)[..., None] + 1.0

    def log_prob(self, x: jax.Array) -> jax.Array:
        return (one_hot(x) * jax.nn.log_softmax(self.logits)).sum(IMAGE_AXES)


def one_hot(x: jax.Array) -> jax.Array:
    """Integers 1 ... 8 ``[..., 1]`` -> ``[..., 8]``."""
    return jax.nn.one_hot(x[..., 0] - 1, VALUES)


class Family(NamedTuple):
    """A family and its parameters.

    Attributes:
      make: (linear parameters ``[..., num_linear]``, positive ones ``[..., 1]`` each) -> the distribution.
      num_linear: parameters that may be any number; of von Mises the direction, a vector of length not 0.
      num_positive: parameters that follow, all positive.
      num_known: how many of the last ones are the same in every class of the study's data.
      points: ``[..., 1]`` numbers -> ``[..., features]``, the coordinates that q(c; D) is linear in.
    """

    make: Callable[..., Any]
    num_linear: int
    num_positive: int
    num_known: int
    points: Callable[[jax.Array], jax.Array] = lambda x: x


def _direction(x: jax.Array) -> jax.Array:
    return jnp.arctan2(x[..., 1:], x[..., :1])


def _on_circle(x: jax.Array) -> jax.Array:
    return jnp.concatenate([jnp.cos(x), jnp.sin(x)], -1)


FAMILIES = {
    "gaussian": Family(Gaussian, 1, 1, 1),
    "gaussian_mixture": Family(GaussianMixture, 1, 2, 2),
    "von_mises": Family(lambda v, k: VonMises(_direction(v), k), 2, 1, 1, _on_circle),
    "gamma": Family(lambda _, *positive: Gamma(*positive), 0, 2, 1),
    "discrete": Family(Discrete, VALUES, 0, 0, one_hot),
}


def num_params(name: str, known: Sequence[float] = ()) -> int:
    """Numbers that `family` takes."""
    return FAMILIES[name].num_linear + FAMILIES[name].num_positive - len(known)


def family(name: str, params: jax.Array, known: Sequence[float] = ()) -> Any:
    """p(x | c) of a number.

    Args:
      name: one of `FAMILIES`.
      params: ``[..., 1, 1, num_params(name, known)]``, unbounded.
      known: values of the last parameters of the distribution, which are then not read from ``params``.
    """
    linear, raw = jnp.split(params.astype(jnp.float32), [FAMILIES[name].num_linear], -1)
    positive = jnp.split(MIN_POSITIVE + jax.nn.softplus(raw), raw.shape[-1], -1) if raw.shape[-1] else []
    fixed = [jnp.full((*raw.shape[:-1], 1), value, jnp.float32) for value in known]
    return FAMILIES[name].make(linear, *positive, *fixed)


def _likelihood(name: str) -> Likelihood:
    return Likelihood(lambda channels: num_params(name), lambda params, channels: family(name, params))


LIKELIHOODS.update({name: _likelihood(name) for name in FAMILIES})
