"""SCHA-VAE: a hierarchy of (c_l, z_l) pairs over growing resolutions (paper section 3.2, fig. 3).

Two deterministic paths run top-down: xc ``[B, 1, r, r, W]`` of the set and xz ``[B, N, r, r, W]``
of its images (one slot until the first z, so that nothing is computed twice).
"""

import math
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from hfsgm_jax.distributions import Normal, softplus_normal
from hfsgm_jax.models.base import Node
from hfsgm_jax.nn.aggregate import Aggregate
from hfsgm_jax.nn.bottleneck import block_type
from hfsgm_jax.nn.layers import Dense, scaled_init, upsample
from hfsgm_jax.trace import SET, Sets, masked_mean


@flax.struct.dataclass
class Paths:
    """The state of the traversal: the set path and the image path."""

    xc: jax.Array
    xz: jax.Array


class Start(nn.Module):
    """The learned beginnings of both paths, at one pixel."""

    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, sets: Sets) -> Paths:
        def learned(name):
            x = self.param(name, nn.initializers.zeros, (1, 1, 1, 1, self.width)).astype(self.dtype)
            return jnp.broadcast_to(x, (sets.num_rows, *x.shape[1:]))

        return Paths(learned("xc"), learned("xz"))


class Finish(nn.Module):
    """Both paths go to the decoder."""

    def __call__(self, state: Paths) -> tuple[jax.Array, jax.Array]:
        return state.xz, state.xc


class PathNode(Node):
    """What the set and the image nodes share: a block per distribution, value and residual added.

    Attributes:
      resolution: r of this layer.
      width: W of both paths.
      channels: of the latent, per position.
      scale: 1/sqrt(L), on everything this layer adds to a path.
      remat: blocks are computed again in the backward pass.
    """

    resolution: int = 1
    width: int = 128
    channels: int = 32
    scale: float = 1.0
    remat: bool = False
    dtype: Any = jnp.float32

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.resolution, self.resolution, self.channels)

    def _block(self, features: int, **kwargs) -> nn.Module:
        return block_type(self.remat)(features, self.width, self.resolution, dtype=self.dtype, **kwargs)

    def _inject(self) -> Dense:
        return Dense(self.width, kernel_init=scaled_init(self.scale), dtype=self.dtype)

    def enter(self, state: Paths, sets: Sets) -> Paths:
        return Paths(upsample(state.xc, self.resolution), upsample(state.xz, self.resolution))

    def skip(self, state: Paths, zeros: jax.Array) -> Paths:
        return state

    def _split(self, params: jax.Array) -> tuple[Normal, jax.Array]:
        """Moments and residual from the prior's block, whose last layer starts at zero."""
        p = 2 * self.channels
        return softplus_normal(params[..., :p]), params[..., p:].astype(self.dtype)


class SetNode(PathNode):
    """c_l: q sees the context's features and its images' z of the layer above; p sees xc.

    Attributes:
      top: there is no z above.
      prior_sees_images: the moments of p(c_l) also see the mean of z_{l+1} over the present slots
        (eq. 3); the residual that goes on down does not.
    """

    plate: str = SET
    top: bool = False
    aggregate: str = "mean"
    heads: int = 4
    prior_sees_images: bool = False

    def setup(self):
        c, w = 2 * self.channels, self.width
        if self.prior_sees_images and not self.top:
            self.prior_moments = self._block(c, scale=0.0, head=True)
            self.prior_residual = self._block(w, scale=0.0)
        else:
            self.prior_block = self._block(c + w, scale=0.0, head=True)
        self.posterior_block = self._block(c, head=True)
        self.pool = Aggregate(self.aggregate, self.heads, self.dtype)
        self.add_value = self._inject()
        self.residual_block = self._block(w, scale=self.scale, residual=True)
        if not self.top:
            self.from_z = self._inject()

    def prior(self, state, sets, train):
        if not (self.prior_sees_images and not self.top):
            return self._split(self.prior_block(state.xc))
        seen = state.xc + self.from_z(masked_mean(_all_slots(state.xz, sets), sets.present))
        return softplus_normal(self.prior_moments(seen)), self.prior_residual(state.xc)

    def posterior(self, state, features, sets, train):
        evidence = state.xc + features[self.resolution]
        if not self.top:
            evidence = evidence + self.from_z(state.xz)
        pooled, weights = self.pool(evidence, sets.context_of(self.plate))
        return softplus_normal(self.posterior_block(pooled)), weights

    def update(self, state, value, residual):
        xc = state.xc + residual + self.add_value(value.astype(self.dtype))
        return state.replace(xc=self.residual_block(xc))


class ImageNode(PathNode):
    """z_l of every image: q sees its features and the image path, p the image path alone."""

    def setup(self):
        z, w = 2 * self.channels, self.width
        self.from_c = self._inject()
        self.prior_block = self._block(z + w, scale=0.0, head=True)
        self.posterior_block = self._block(z, head=True)
        self.add_value = self._inject()
        self.residual_block = self._block(w, scale=self.scale, residual=True)

    def enter(self, state, sets):
        state = super().enter(state, sets)
        return state.replace(xz=state.xz + self.from_c(state.xc))

    def prior(self, state, sets, train):
        return self._split(self.prior_block(state.xz))

    def posterior(self, state, features, sets, train):
        xz = _all_slots(state.xz, sets)
        return softplus_normal(self.posterior_block(jnp.concatenate([xz, features[self.resolution]], -1))), None

    def update(self, state, value, residual):
        xz = state.xz + residual + self.add_value(value.astype(self.dtype))
        return state.replace(xz=self.residual_block(xz))


def _all_slots(x: jax.Array, sets: Sets) -> jax.Array:
    """``[B, N or 1, ...]`` -> ``[B, N, ...]``."""
    return jnp.broadcast_to(x, (x.shape[0], sets.num_slots, *x.shape[2:]))


def nodes(config: Any, levels: tuple[tuple[int, int], ...], dtype: Any) -> tuple[Node, ...]:
    """c_L, z_L, ..., c_1, z_1 for ``levels`` (resolution, depth), low to high."""
    resolutions = [r for r, depth in levels for _ in range(depth)]
    total = len(resolutions)
    common = dict(width=config.width, scale=1 / math.sqrt(total), remat=config.remat, dtype=dtype)
    out = []
    for i, resolution in enumerate(resolutions):
        layer = dict(layer=total - i, resolution=resolution, **common)
        out.append(
            SetNode(
                channels=config.c_channels,
                top=i == 0,
                aggregate=config.aggregate,
                heads=config.heads,
                prior_sees_images=config.prior_sees_images,
                **layer,
            )
        )
        out.append(ImageNode(channels=config.z_channels, **layer))
    return tuple(out)
