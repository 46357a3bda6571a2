"""Batch-normalised networks of the Neural Statistician family (spec 1.2, 1.3).

One code for vectors ``[B, N, H]`` and for maps ``[B, N, 4, 4, H]``: a linear layer acts on the
last axis, and the residual networks convolve where there is space. Layers that a normalisation
follows have no bias: it would be subtracted again.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from hfsgm_jax.nn.layers import BatchNorm, Conv, Dense, average_pool, depth_to_space, upsample
from hfsgm_jax.trace import GROUP, IMAGE, SET

GRID = 4  # positions per side of a latent map
POOLED = 64  # pixels; images of this side are halved before the first convolution, and doubled after the last


def grid_side(image_size: int) -> int:
    """Positions per side of the smallest map, where `ConvEncoder` ends and `ConvDecoder` starts.

    Three strides of 2, each rounded up: `GRID` of 28, 32 and (halved before) 64 pixels, 5 of 40.
    """
    side = image_size // 2 if image_size == POOLED else image_size
    return -(-side // 2**3)


class Linear(nn.Module):
    """Dense, batch norm, ELU."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, observed: jax.Array, train: bool) -> jax.Array:
        x = Dense(self.features, use_bias=False, dtype=self.dtype)(x)
        return nn.elu(BatchNorm(dtype=self.dtype)(x, observed, train))


class ConvStack(nn.Module):
    """Convolution 3x3, batch norm, ELU, one after another: (features, stride, padding) each."""

    layers: tuple[tuple[int, int, int], ...]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, observed: jax.Array, train: bool) -> jax.Array:
        for features, stride, padding in self.layers:
            x = Conv(features, 3, stride, padding, use_bias=False, dtype=self.dtype)(x)
            x = nn.elu(BatchNorm(dtype=self.dtype)(x, observed, train))
        return x


class ConvEncoder(nn.Module):
    """Nine convolutions to maps of `grid_side` positions, then a vector (or, ``spatial``, a map) of ``width`` channels.

    The convolutions have ``features``, twice and four times as many: 64, 128, 256 in the papers.
    """

    width: int
    spatial: bool
    features: int = 64
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, observed: jax.Array, train: bool) -> jax.Array:
        x = images.astype(self.dtype)
        if x.shape[-3] == POOLED:
            x = average_pool(x)
        layers = [(k * self.features, s, 1) for k in (1, 2, 4) for s in (1, 1, 2)]
        x = ConvStack(tuple(layers), self.dtype)(x, observed, train)
        if not self.spatial:
            x = x.reshape(*x.shape[:2], -1)
        return Linear(self.width, self.dtype)(x, observed, train)


class Upsample2(nn.Module):
    """Transposed 2x2 convolution of stride 2 (a linear map to four pixels), batch norm, ELU."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, observed: jax.Array, train: bool) -> jax.Array:
        x = depth_to_space(Dense(4 * self.features, use_bias=False, dtype=self.dtype)(x), 2)
        return nn.elu(BatchNorm(dtype=self.dtype)(x, observed, train))


class ConvDecoder(nn.Module):
    """From all latents of an image and its set to the parameters of the likelihood.

    ``values`` maps plates to their latents, ``[B, M or 1, ..., channels]`` each. The convolutions have four times,
    twice and once as many ``features``, as those of `ConvEncoder`.
    """

    width: int
    image_size: int
    out_channels: int
    spatial: bool
    features: int = 64
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, values: dict[str, tuple[jax.Array, ...]], observed: jax.Array, train: bool) -> jax.Array:
        z = jnp.concatenate(values[IMAGE], -1)
        shared = values.get(GROUP, ()) + values.get(SET, ())
        c = jnp.concatenate(shared, -1) if shared else None
        x = nn.elu(Merge(self.width, dtype=self.dtype, name="merge")((z, c)))
        most, side = 4 * self.features, grid_side(self.image_size)
        x = Dense(most if self.spatial else side * side * most, dtype=self.dtype, name="grid")(x)
        x = x if self.spatial else x.reshape(*x.shape[:2], side, side, most)
        last = 0 if self.image_size == 28 else 1
        for features, padding in ((most, 1), (most // 2, 1), (self.features, last)):
            x = ConvStack(((features, 1, 1), (features, 1, padding)), self.dtype)(x, observed, train)
            x = Upsample2(features, self.dtype)(x, observed, train)
        x = upsample(x, self.image_size)
        return Dense(self.out_channels, dtype=jnp.float32, name="pixels")(x)


class Merge(nn.Module):
    """Sum of linear maps of the inputs that are there; with FiLM, the last one modulates the rest.

    FiLM (spec 1.6): (1 + gamma(c)) * (sum of the other maps) + beta(c), gamma zero at first; where
    there are no others, only beta.
    """

    width: int
    film: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs: tuple[jax.Array | None, ...]) -> jax.Array:
        *others, condition = inputs
        there = [(f"input{i}", x) for i, x in enumerate(others) if x is not None]
        terms = [Dense(self.width, dtype=self.dtype, name=name)(x) for name, x in there]
        if condition is not None:
            if self.film and terms:
                zeros = nn.initializers.zeros
                gamma = Dense(self.width, kernel_init=zeros, dtype=self.dtype, name="gamma")(condition)
                terms = [(1 + gamma) * sum(terms[1:], terms[0])]
            terms.append(Dense(self.width, dtype=self.dtype, name="condition")(condition))
        return sum(terms[1:], terms[0])


class ResidualNet(nn.Module):
    """`blocks` layers with ELU between them, then ELU(out + x): FCRes on vectors, ConvRes on maps."""

    blocks: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, observed: jax.Array, train: bool) -> jax.Array:
        spatial, out = x.ndim > 3, x
        for i in range(self.blocks):
            layer = (Conv if spatial else Dense)(x.shape[-1], use_bias=False, dtype=self.dtype)
            out = BatchNorm(dtype=self.dtype)(layer(out), observed, train)
            out = nn.elu(out) if i < self.blocks - 1 else out
        return nn.elu(out + x)


class Head(nn.Module):
    """Mean and log-variance, batch-normalised: per channel on maps, by two numbers on vectors."""

    channels: int

    @nn.compact
    def __call__(self, x: jax.Array, observed: jax.Array, train: bool) -> jax.Array:
        spatial = x.ndim > 3
        x = Dense(2 * self.channels, use_bias=not spatial, dtype=jnp.float32)(x)
        return BatchNorm(per_channel=spatial)(x, observed, train)


class PostPool(nn.Module):
    """Layers after the aggregation of a set: two linear layers, or a residual net on maps; the head."""

    width: int
    channels: int
    blocks: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, observed: jax.Array, train: bool) -> jax.Array:
        if x.ndim > 3:
            x = ResidualNet(self.blocks, self.dtype)(x, observed, train)
        else:
            for _ in range(2):
                x = Linear(self.width, self.dtype)(x, observed, train)
        return Head(self.channels)(x, observed, train)
