"""The models of the VHE paper's 1D study (section 4.1): one latent c per set, and single numbers.

p(c) = N(0, I). q(c; D) is a Gaussian whose mean and (raw) scale are linear in the mean over D of the numbers' own
coordinates: x itself, the point (cos x, sin x) of an angle, the unit vector of one of 8 values. p(x | c) is of the
right family; its parameters are linear in c (`hfsgm_jax.nn.families`). There is no latent of the single number.
"""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from hfsgm_jax.config import ConfigError
from hfsgm_jax.distributions import Normal, softplus_normal
from hfsgm_jax.models.base import Node, SetModel
from hfsgm_jax.nn.families import FAMILIES, family, num_params
from hfsgm_jax.nn.layers import Dense
from hfsgm_jax.trace import SET, Sets, masked_mean

IMAGE_SHAPE = (1, 1, 1)


@flax.struct.dataclass
class State:
    """``c`` ``[B, 1, channels]``, and ``slots`` ``[B, N, 0]``, which only say how many numbers there are."""

    slots: jax.Array
    c: jax.Array | None = None


class Start(nn.Module):
    """No latents yet."""

    def __call__(self, sets: Sets) -> State:
        return State(jnp.zeros((*sets.slots.shape, 0)))


class Finish(nn.Module):
    """c of every slot, ``[B, N, channels]``."""

    def __call__(self, state: State) -> jax.Array:
        num = state.slots.shape[1]
        c = jnp.broadcast_to(state.c, (state.c.shape[0], num, state.c.shape[2]))
        return jnp.concatenate([c, state.slots], -1)


class Points(nn.Module):
    """Numbers ``[B, N, 1, 1, 1]`` -> their coordinates ``[B, N, features]``; nothing is learned."""

    family: str

    def __call__(self, images: jax.Array, observed: jax.Array, train: bool) -> jax.Array:
        return FAMILIES[self.family].points(images[..., 0, 0, :])


class MeanNode(Node):
    """c: q(c; D) is linear in the mean of D."""

    plate: str = SET
    channels: int = 2

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.channels,)

    def setup(self):
        self.to_moments = Dense(2 * self.channels)

    def prior(self, state, sets, train):
        return Normal.standard((sets.num_rows, 1, self.channels)), None

    def posterior(self, state, features, sets, train):
        mean = masked_mean(features, sets.context_of(self.plate))
        return softplus_normal(self.to_moments(mean)), None

    def update(self, state, value, residual):
        return state.replace(c=value)


class Parameters(nn.Module):
    """c ``[B, M, channels]`` -> the family's parameters ``[B, M, 1, 1, num]``, linear."""

    num: int

    @nn.compact
    def __call__(self, decoder_input: jax.Array, images: Any, observed: jax.Array, train: bool) -> jax.Array:
        return Dense(self.num)(decoder_input)[..., None, None, :]


class FamilyHead(nn.Module):
    """The family's parameters -> p(x | c)."""

    family: str
    known: tuple[float, ...] = ()

    def __call__(self, params: jax.Array) -> Any:
        return family(self.family, params, self.known)


def check(config: Any, image_shape: tuple[int, int, int]) -> None:
    """Raises a ConfigError unless the section ``model`` names a family and the data are single numbers."""
    name, known = config.likelihood, tuple(config.known)
    if name not in FAMILIES:
        raise ConfigError(
            f"model.likelihood={name!r} is of images; model.name='one_dim' takes one of {', '.join(FAMILIES)}"
        )
    if tuple(image_shape) != IMAGE_SHAPE:
        height, width, channels = image_shape
        raise ConfigError(
            f"images of {height}x{width}x{channels}: model.name='one_dim' is of single numbers; set data.image_size=1, "
            "data.channels=1 (and data.source='one_dim')"
        )
    if len(known) not in (0, FAMILIES[name].num_known) or any(not value > 0 for value in known):
        raise ConfigError(
            f"model.known={known}: of model.likelihood={name!r} either none of the parameters is known or the last "
            f"{FAMILIES[name].num_known}, which are above 0"
        )
    if config.pixelcnn_layers:
        raise ConfigError(f"model.pixelcnn_layers={config.pixelcnn_layers}: a single number has no pixels; use 0")
    if config.c_channels < 1:
        raise ConfigError(f"model.c_channels={config.c_channels} must be at least 1")


def build(config: Any) -> SetModel:
    """The model of a checked section ``model``."""
    name, known = config.likelihood, tuple(config.known)
    return SetModel(
        encoder=Points(name),
        nodes=(MeanNode(channels=config.c_channels),),
        start=Start(),
        finish=Finish(),
        decoder=Parameters(num_params(name, known)),
        head=FamilyHead(name, known),
        likelihood=name,
        channels=1,
    )
