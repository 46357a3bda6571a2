"""Bottleneck blocks without normalisation and the pyramids made of them (SCHA-VAE)."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from hfsgm_jax.nn import layers, loops
from hfsgm_jax.nn.layers import Conv, Dense, gelu, scaled_init

Levels = tuple[tuple[int, int], ...]  # (resolution, depth)


class Bottleneck(nn.Module):
    """GELU-1x1-GELU-kxk-GELU-kxk-GELU-1x1 with a quarter of the width inside; k = 3 above 2 pixels.

    Attributes:
      features: channels out.
      width: channels whose quarter is used inside.
      resolution: decides k; the paper's blocks that change resolution use the new one.
      scale: of the last kernel at initialisation; 0 gives zeros.
      residual: adds the input.
      head: the last layer computes in float32 (moments of a distribution).
    """

    features: int
    width: int
    resolution: int
    scale: float = 1.0
    residual: bool = False
    head: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        inner, size = self.width // 4, 3 if self.resolution > 2 else 1
        h = Dense(inner, dtype=self.dtype, name="reduce")(gelu(x))
        h = Conv(inner, size, dtype=self.dtype, name="conv1")(gelu(h))
        h = Conv(inner, size, dtype=self.dtype, name="conv2")(gelu(h))
        dtype = jnp.float32 if self.head else self.dtype
        h = Dense(self.features, kernel_init=scaled_init(self.scale), dtype=dtype, name="expand")(gelu(h))
        return x + h if self.residual else h


class Pyramid(nn.Module):
    """Residual blocks at one resolution after another.

    Attributes:
      levels: resolutions and depths, in the order of computation.
      width: features of every block.
      patch: side of the tiles of pixels at the highest resolution.
      border: see `layers.resize`.
      loop: blocks of one resolution in a compiled loop (`loops`).
    """

    levels: Levels
    width: int
    patch: int = 1
    border: str = "pad"
    loop: bool = False
    dtype: Any = jnp.float32

    def _level(self, x: jax.Array, resolution: int, depth: int) -> jax.Array:
        """The blocks of a level; the first of a new resolution computes at the old one."""
        scale = 1 / math.sqrt(sum(blocks for _, blocks in self.levels))
        look = dict(residual=True, dtype=self.dtype)
        block = functools.partial(Bottleneck, self.width, self.width, resolution, scale, **look)
        blocks = [block(name=f"r{resolution}_{i}") for i in range(depth)]
        if x.shape[-3] != resolution:
            x = layers.at_resolution(blocks.pop(0)(x), resolution)
        return loops.one_after_another(self, blocks, x)


class PyramidEncoder(Pyramid):
    """Image features at every resolution: ``[B, N, H, W, C]`` -> {resolution: [B, N, r, r, width]}.

    The first block of a new resolution is pooled after (spec of the reference code); the last activation of each
    resolution is kept.
    """

    @nn.compact
    def __call__(self, images: jax.Array, observed: jax.Array, train: bool) -> dict[int, jax.Array]:
        x = layers.resize(images.astype(self.dtype), layers.padded_size(images.shape[-3]), self.border)
        if self.patch > 1:
            x = Dense(self.width, dtype=self.dtype, name="stem")(layers.space_to_depth(x, self.patch))
        else:
            x = Conv(self.width, dtype=self.dtype, name="stem")(x)
        features = {}
        for resolution, depth in self.levels:
            features[resolution] = x = self._level(x, resolution, depth)
        return features


class PyramidDecoder(Pyramid, kw_only=True):
    """From the image path (and the set path) at the latents' highest resolution to pixels; levels low to high.

    ``paths`` has ``xz`` ``[B, M, r, r, width]`` and ``xc`` ``[B, 1, r, r, width]``. With
    ``context="top_left"`` only the first position of xc is used, as in the reference code: it convolves
    a map of one position, so that only the centre tap of the 3x3 kernel acts, and adds the result everywhere.
    """

    image_size: int
    out_channels: int
    context: str = "full"

    @nn.compact
    def __call__(self, paths: Any, observed: jax.Array, train: bool) -> jax.Array:
        xz, xc = paths.xz, paths.xc
        if self.context == "top_left":
            xc = xc[..., :1, :1, :]
        x = Conv(self.width, dtype=self.dtype, name="from_z")(xz)
        x = x + Conv(self.width, dtype=self.dtype, name="from_c")(xc)
        for resolution, depth in self.levels:
            x = self._level(x, resolution, depth)
        if self.patch > 1:
            logits = Dense(self.out_channels * self.patch**2, dtype=jnp.float32, name="pixels")(gelu(x))
            return layers.resize(layers.depth_to_space(logits, self.patch), self.image_size, self.border)
        # A 1x1 layer commutes with cropping, and there are fewer pixels to compute after it.
        x = layers.resize(x, self.image_size, self.border)
        return Dense(self.out_channels, dtype=jnp.float32, name="pixels")(x)
