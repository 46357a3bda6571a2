"""The PixelCNN Variational Homoencoder: a map c of the set and a vector t of each image (VHE section 4, 6.4).

With a style (factorial VHE, eq. 15) a vector s is shared by the images of one style, whatever their class.
"""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from hfsgm_jax.distributions import Normal, softplus_normal
from hfsgm_jax.models.base import Node
from hfsgm_jax.nn.autoregressive import AutoregressiveNormal
from hfsgm_jax.nn.layers import Conv, Dense
from hfsgm_jax.nn.pixelcnn import PixelCNN
from hfsgm_jax.trace import SET, STYLE, Sets, masked_mean


@flax.struct.dataclass
class Shared:
    """The state of the traversal: the latents so far."""

    c: jax.Array | None = None
    t: jax.Array | None = None
    style: jax.Array | None = None


class Start(nn.Module):
    """No latents yet."""

    def __call__(self, sets: Sets) -> Shared:
        return Shared()


class Finish(nn.Module):
    """All latents go to the decoder."""

    def __call__(self, state: Shared) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        return state.t, state.c, state.style


class MapNode(Node):
    """c: a map. q(c; D) is one convolution of the mean of the aligned context images.

    Attributes:
      size, channels: of the map.
      kernel: side of that convolution; as large as the map, it sees all of it.
      prior_form: ``normal``: N(0, I); else the form of the PixelCNN over its positions.
      features: of that PixelCNN.
    """

    plate: str = SET
    size: int = 28
    channels: int = 8
    kernel: int = 28
    prior_form: str = "stacks"
    features: int = 64

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.size, self.size, self.channels)

    def setup(self):
        before = (self.kernel - 1) // 2
        self.to_moments = Conv(2 * self.channels, self.kernel, 1, ((before, self.kernel - 1 - before),) * 2)
        if self.prior_form != "normal":
            self.net = PixelCNN(
                2 * self.channels, self.channels, self.features, form=self.prior_form, conditional=False
            )

    def prior(self, state, sets, train):
        if self.prior_form == "normal":
            return Normal.standard((sets.num_rows, 1, *self.event_shape)), None
        if self.is_initializing():
            self.net(jnp.zeros((1, 1, *self.event_shape)))
        return AutoregressiveNormal(self.net.variables, self.net.clone(parent=None), self.event_shape), None

    def posterior(self, state, features, sets, train):
        return softplus_normal(self.to_moments(masked_mean(features["aligned"], sets.context_of(self.plate)))), None

    def update(self, state, value, residual):
        return state.replace(c=value)


class StyleNode(Node):
    """s: a vector shared by the images of a style; q(s; D) from the mean of their features."""

    plate: str = STYLE
    channels: int = 6

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.channels,)

    def setup(self):
        self.to_moments = Dense(2 * self.channels, dtype=jnp.float32)

    def prior(self, state, sets, train):
        return Normal.standard((sets.num_rows, 1, self.channels)), None

    def posterior(self, state, features, sets, train):
        return softplus_normal(self.to_moments(masked_mean(features["style"], sets.context_of(self.plate)))), None

    def update(self, state, value, residual):
        return state.replace(style=value)


class PositionNode(Node):
    """t: where an image sees c; p(t) = N(0, I), q(t; x) from the image alone."""

    channels: int = 16

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.channels,)

    def prior(self, state, sets, train):
        return Normal.standard((sets.num_rows, 1, self.channels)), None

    def posterior(self, state, features, sets, train):
        return softplus_normal(features["t"]), None

    def update(self, state, value, residual):
        return state.replace(t=value)


def nodes(config: Any, size: int, styled: bool = False) -> tuple[Node, ...]:
    """c, then (styled) s, then t."""
    look = dict(kernel=config.context_kernel or size, prior_form=config.context_prior, features=config.prior_width)
    c = MapNode(size=size, channels=config.c_channels, **look)
    style = (StyleNode(channels=config.style_channels),) if styled else ()
    return (c, *style, PositionNode(channels=config.z_channels))
