"""VAE, bNS, NS, CNS, HFSGM, CHFSGM (SCHA-VAE paper, section 3) and the hierarchical VHE, with mean, max or LAG.

One kind of set node and one of image node; the members of the family differ in how many of each
there are (`nodes`) and in whether latents are vectors or 4x4 maps.
"""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from hfsgm_jax.distributions import Normal, clipped_exp_scale
from hfsgm_jax.models.base import Node
from hfsgm_jax.nn.aggregate import Aggregate
from hfsgm_jax.nn.baseline import GRID, Head, Merge, PostPool, ResidualNet
from hfsgm_jax.nn.layers import Dense
from hfsgm_jax.trace import GROUP, SET, Sets


@flax.struct.dataclass
class Values:
    """The state of the traversal: the latents so far, top first."""

    c: tuple[jax.Array, ...] = ()
    z: tuple[jax.Array, ...] = ()


class Start(nn.Module):
    """No latents yet."""

    def __call__(self, sets: Sets) -> Values:
        return Values()


class Finish(nn.Module):
    """All latents of an image and of its set, each stacked on the last axis (c is None in a VAE)."""

    def __call__(self, state: Values) -> tuple[jax.Array, jax.Array | None]:
        return jnp.concatenate(state.z, -1), jnp.concatenate(state.c, -1) if state.c else None


def moments(params: jax.Array) -> Normal:
    """Mean and log-variance, stacked on the last axis -> a Normal; the log-variance is clipped."""
    loc, log_variance = jnp.split(params.astype(jnp.float32), 2, -1)
    return Normal(loc, clipped_exp_scale(log_variance))


class StatisticianNode(Node):
    """What set and image nodes share.

    Attributes:
      width: H of the hidden layers.
      channels: of the latent, per position.
      spatial: latents are 4x4 maps.
      blocks: layers of a residual net.
      top: nothing is above: p(c_L) = N(0, I), and p(z_L) too where there is no c.
    """

    width: int = 512
    channels: int = 32
    spatial: bool = False
    blocks: int = 3
    top: bool = False
    dtype: Any = jnp.float32

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (GRID, GRID, self.channels) if self.spatial else (self.channels,)

    def _standard(self, sets: Sets) -> Normal:
        return Normal.standard((sets.num_rows, 1, *self.event_shape))


class SetNode(StatisticianNode):
    """c_l of NS (top only) and HFSGM: the images of the set, pooled, each with its z above.

    Attributes:
      aggregate, heads: pooling of q; p pools by `prior_aggregate`.
      pre_pool: a residual net on every image before pooling (vectors without LAG).
      prior_sees_images: p(c_l) pools z_{l+1} over the present slots (eq. 3); else it sees c_{l+1}.
      below_images: there are latents of images above this one (not below the latent of a group).
    """

    plate: str = SET
    aggregate: str = "mean"
    prior_aggregate: str = "mean"
    heads: int = 4
    pre_pool: bool = False
    prior_sees_images: bool = False
    below_images: bool = True

    def setup(self):
        head = dict(width=self.width, channels=self.channels, blocks=self.blocks, dtype=self.dtype)
        self.q_pool = Aggregate(self.aggregate, self.heads, self.dtype)
        self.q_head = PostPool(**head)
        if self.top:
            return
        linear = lambda: Dense(self.width, dtype=self.dtype)  # noqa: E731
        self.q_from_h, self.q_from_c = linear(), linear()
        self.q_from_z = linear() if self.below_images else None
        self.p_from_c, self.p_head = linear(), PostPool(**head)
        if self.prior_sees_images:
            self.p_from_z = linear()
            self.p_pool = Aggregate(self.prior_aggregate, self.heads, self.dtype)
        if self.pre_pool:
            self.q_net, self.p_net = ResidualNet(self.blocks, self.dtype), ResidualNet(self.blocks, self.dtype)

    def _per_image(self, x, net, counted, train):
        """What happens to every image before pooling: on vectors ELU and a residual net, normed over ``counted``."""
        if not self.spatial:
            x = nn.elu(x)
        return getattr(self, net)(x, counted, train) if self.pre_pool else x

    def _after_pool(self, pooled, from_c):
        """c_{l+1} goes around the pooling, except where LAG replaces it outright (HFSGM-LAG)."""
        return pooled + from_c if self.pre_pool or self.spatial else pooled

    def prior(self, state, sets, train):
        if self.top:
            return self._standard(sets), None
        x = from_c = self.p_from_c(state.c[-1])
        if self.prior_sees_images:
            x = x + self.p_from_z(state.z[-1])
        x = self._per_image(x, "p_net", sets.observed, train)
        if self.prior_sees_images:
            x, _ = self.p_pool(x, sets.present)
        return moments(self.p_head(self._after_pool(x, from_c), sets.observed, train)), None

    def posterior(self, state, features, sets, train):
        context = sets.context_of(self.plate)
        if self.top:
            pooled, weights = self.q_pool(features, context)
        else:
            from_c = self.q_from_c(state.c[-1])
            x = self.q_from_h(features) + from_c
            if self.below_images:
                x = x + self.q_from_z(state.z[-1])
            pooled, weights = self.q_pool(self._per_image(x, "q_net", context, train), context)
            pooled = self._after_pool(pooled, from_c)
        return moments(self.q_head(pooled, sets.observed, train)), weights

    def update(self, state, value, residual):
        return state.replace(c=(*state.c, value.astype(self.dtype)))


class GroupNode(SetNode):
    """a of the hierarchical VHE: shared by the classes of a group, such as an alphabet (VHE eq. 20)."""

    plate: str = GROUP
    top: bool = True


class ImageNode(StatisticianNode):
    """z_l of every image given z_{l+1} and c: PriorZ and PosteriorZ of the papers."""

    film: bool = False
    has_context: bool = True

    def setup(self):
        self.q_merge, self.q_net = Merge(self.width, self.film, self.dtype), ResidualNet(self.blocks, self.dtype)
        self.q_head = Head(self.channels)
        if not self.top or self.has_context:
            self.p_merge, self.p_net = Merge(self.width, self.film, self.dtype), ResidualNet(self.blocks, self.dtype)
            self.p_head = Head(self.channels)

    def _parents(self, state):
        return state.z[-1] if state.z else None, state.c[-1] if state.c else None

    def prior(self, state, sets, train):
        z, c = self._parents(state)
        if z is None and c is None:
            return self._standard(sets), None
        x = nn.elu(self.p_merge((z, c), sets.observed, train))
        return moments(self.p_head(self.p_net(x, sets.observed, train), sets.observed, train)), None

    def posterior(self, state, features, sets, train):
        z, c = self._parents(state)
        x = nn.elu(self.q_merge((features, z, c), sets.observed, train))
        return moments(self.q_head(self.q_net(x, sets.observed, train), sets.observed, train)), None

    def update(self, state, value, residual):
        return state.replace(z=(*state.z, value.astype(self.dtype)))


def nodes(config: Any, *, spatial: bool, num_c: int, num_z: int, dtype: Any, groups: bool = False) -> tuple[Node, ...]:
    """The latents of one member of the family in traversal order.

    Args:
      config: the section ``model``.
      spatial: latents are 4x4 maps.
      num_c: 0 (VAE), 1 (NS) or ``num_z`` (HFSGM) set latents.
      num_z: L image latents.
      dtype: of the hidden layers.
      groups: above c there is a latent of the group (hierarchical VHE).
    """
    lag = config.aggregate == "lag"
    common = dict(width=config.width, spatial=spatial, blocks=config.blocks, dtype=dtype)
    pool = dict(aggregate=config.aggregate, heads=config.heads)
    out = [GroupNode(channels=config.a_channels, **pool, **common)] if groups else []
    for layer in range(num_z, 0, -1):
        top = layer == num_z
        if num_c and (top or num_c > 1):
            out.append(
                SetNode(
                    layer=layer if num_c > 1 else 1,
                    channels=config.c_channels,
                    top=top and not groups,
                    prior_aggregate="mean" if spatial else config.aggregate,
                    pre_pool=not spatial and not lag and (groups or not top),
                    prior_sees_images=config.prior_sees_images and num_c > 1,
                    below_images=not top,
                    **pool,
                    **common,
                )
            )
        film = config.condition == "film"
        has_context = num_c > 0
        out.append(
            ImageNode(layer=layer, channels=config.z_channels, top=top, film=film, has_context=has_context, **common)
        )
    return tuple(out)
