"""Networks of the PixelCNN Variational Homoencoder (VHE supplement 6.4).

The set latent c is a map of the images' own size. Each image sees it through an affine warp that its own latent t
decides, and a few convolutions of what it sees condition the pixels.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from hfsgm_jax.nn.layers import BatchNorm, Conv, Dense
from hfsgm_jax.trace import IMAGE, SET, STYLE
from hfsgm_jax.warp import warp

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def seen_through(x: jax.Array, affine: jax.Array) -> jax.Array:
    """Square maps ``[B, N or 1, H, H, C]`` seen through affine maps ``[B, N, 6]``: ``[B, N, H, H, C]``, 0 outside.

    Position (row, column) in [-1, 1] shows the map at ``(a0 r + a1 c + a2, a3 r + a4 c + a5)`` (Jaderberg et al. 2015).
    """
    half = (x.shape[-2] - 1) / 2  # pixels
    x = jnp.broadcast_to(x, (*affine.shape[:2], *x.shape[2:]))
    theta = affine.reshape(*affine.shape[:2], 2, 3).astype(jnp.float32)
    return jax.vmap(jax.vmap(warp))(x.astype(jnp.float32), theta[..., :2], half * theta[..., 2])


class Affine(nn.Module):
    """A linear map to the 6 numbers of an affine warp, the identity at first: else a warp starts degenerate."""

    @nn.compact
    def __call__(self, h: jax.Array) -> jax.Array:
        zeros = nn.initializers.zeros
        return jnp.array(IDENTITY) + nn.Dense(6, kernel_init=zeros, bias_init=zeros, dtype=jnp.float32)(h)


def _pool(x: jax.Array) -> jax.Array:
    """2x2 maximum; an odd last row or column is kept."""
    lead, (h, w, c) = x.shape[:-3], x.shape[-3:]
    flat = nn.max_pool(x.reshape(-1, h, w, c), (2, 2), (2, 2), padding=[(0, h % 2), (0, w % 2)])
    return flat.reshape(*lead, *flat.shape[1:])


class PooledConvs(nn.Module):
    """Convolution 3x3, maximum of 2x2, ReLU, batch norm until one position is left: ``[B, N, features]``."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, observed: jax.Array, train: bool) -> jax.Array:
        x, padding = x.astype(self.dtype), 2  # 28 pixels become 15 (then 8, 4, 2, 1)
        while x.shape[-3] > 1:
            x = nn.relu(_pool(Conv(self.features, 3, 1, padding, dtype=self.dtype)(x)))
            x, padding = BatchNorm(dtype=self.dtype)(x, observed, train), 1
        return x[..., 0, 0, :]


class HomoencoderFeatures(nn.Module):
    """Per image: itself, aligned by a spatial transformer (for q(c; D)), and the moments of q(t; x).

    Attributes:
      align_features, features: of the convolutions that decide the warp, and t.
      z_channels: size of t.
      styled: also the evidence of a style (factorial VHE).
    """

    z_channels: int
    align_features: int = 16
    features: int = 32
    styled: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, observed: jax.Array, train: bool) -> dict[str, jax.Array]:
        stack = lambda features, name: PooledConvs(features, self.dtype, name=name)(images, observed, train)
        out = {
            "aligned": seen_through(images, Affine(name="align")(stack(self.align_features, "align_convs"))),
            "t": Dense(2 * self.z_channels, dtype=jnp.float32, name="t")(stack(self.features, "t_convs")),
        }
        if self.styled:
            out["style"] = stack(self.features, "style_convs")
        return out


class HomoencoderDecoder(nn.Module):
    """The condition of the pixels: c seen through t's warp, then convolutions.

    ``values`` maps plates to their latents: t ``[B, M, T]``, c ``[B, 1, H, W, C]`` and perhaps a style ``[B, 1, S]``,
    which enters as the outer product with c at every position (factorial VHE).

    Attributes:
      width: features of the convolutions.
      out_channels: parameters of the likelihood; None: the output is what an autoregressive head takes.
    """

    width: int
    out_channels: int | None
    blocks: int = 5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, values: dict[str, tuple[jax.Array, ...]], observed: jax.Array, train: bool) -> jax.Array:
        x = seen_through(values[SET][0], Affine(name="place")(values[IMAGE][0]))
        for style in values.get(STYLE, ()):
            x = (x[..., None] * style[:, :, None, None, None, :]).reshape(*x.shape[:-1], -1)
        x = x.astype(self.dtype)
        for _ in range(self.blocks):
            x = nn.relu(Conv(self.width, 3, dtype=self.dtype)(x))
            x = BatchNorm(dtype=self.dtype)(x, observed, train)
        return x if self.out_channels is None else Dense(self.out_channels, dtype=jnp.float32, name="pixels")(x)
