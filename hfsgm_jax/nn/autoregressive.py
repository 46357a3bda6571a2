"""Distributions whose positions follow one another.

They hold the network's variables and what it is conditioned on: whoever has a trace evaluates them (all positions at
once) or draws from them (position by position).
"""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from hfsgm_jax.distributions import LIKELIHOODS, softplus_normal
from hfsgm_jax.nn.pixelcnn import PixelCNN, draw_map


@flax.struct.dataclass
class AutoregressivePixels:
    """p(x | y), pixel after pixel.

    Attributes:
      variables: of ``net``.
      condition: y, ``[B, M, H, W, features]``.
      net: unbound PixelCNN with the likelihood's parameters as outputs.
      likelihood: name in `distributions.LIKELIHOODS`.
    """

    variables: Any
    condition: jax.Array
    net: PixelCNN = flax.struct.field(pytree_node=False)
    likelihood: str = flax.struct.field(pytree_node=False)

    def log_prob(self, x: jax.Array) -> jax.Array:
        """``[B, M]`` log p(x | y) of images ``[B, M, H, W, C]``, all pixels at once, nats."""
        return self._pixels(self.net.apply(self.variables, x, self.condition)).log_prob(x)

    def _pixels(self, params: jax.Array) -> Any:
        return LIKELIHOODS[self.likelihood].make(params, self.net.channels)

    def mean_and_draw(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The mean of every pixel given the pixels drawn before it, and the draw: ``[B, M, H, W, C]`` each."""
        *lead, height, width, _ = self.condition.shape
        index = jnp.arange(height * width).reshape(height, width, 1)

        def draw(params, index):
            pixel = self._pixels(params[..., None, None, :])
            value = pixel.sample(jax.random.fold_in(key, index.ravel()[0]))
            return value[..., 0, 0, :], pixel.mean()[..., 0, 0, :]

        positions = jnp.broadcast_to(index, (*lead, height, width, 1))
        return draw_map(self.net, self.variables, self.condition, positions, draw)[::-1]


@flax.struct.dataclass
class AutoregressiveNormal:
    """p(c) of a map ``[B, 1, H, W, C]``: position after position, Normal given those before; log p(c) is exact.

    Attributes:
      variables: of ``net``, an unbound PixelCNN with means and raw scales as outputs.
    """

    variables: Any
    net: PixelCNN = flax.struct.field(pytree_node=False)

    def log_prob(self, x: jax.Array) -> jax.Array:
        """Elementwise log density, nats: of every position given the positions of ``x`` before it."""
        return softplus_normal(self.net.apply(self.variables, x)).log_prob(x)

    def at(
        self, noise: jax.Array, temperature: jax.Array | float | None = None, wanted: jax.Array | None = None
    ) -> jax.Array:
        """The map that standard normal noise gives; zeros, at no cost, unless ``wanted`` (a traced bool)."""
        draw = lambda params, eps: (softplus_normal(params).at(eps, temperature), ())
        rows = None if wanted is None else jnp.where(wanted, noise.shape[-3], 0)
        return draw_map(self.net, self.variables, None, noise, draw, rows)[0]


class PixelHead(nn.Module):
    """From a map of features to p(x | map), pixel after pixel.

    Attributes:
      likelihood, channels: of a pixel, see `distributions.LIKELIHOODS`.
      features, layers: of the PixelCNN.
    """

    likelihood: str
    channels: int
    features: int = 64
    layers: int = 2
    dtype: Any = jnp.float32

    def setup(self):
        outputs = LIKELIHOODS[self.likelihood].num_params(self.channels)
        self.net = PixelCNN(outputs, self.channels, self.features, self.layers, dtype=self.dtype)

    def __call__(self, y: jax.Array) -> AutoregressivePixels:
        """``y`` is ``[B, M, H, W, any]``."""
        if self.is_initializing():
            self.net(jnp.zeros((*y.shape[:-1], self.channels)), y)
        return AutoregressivePixels(self.net.variables, y, self.net.clone(parent=None), self.likelihood)
