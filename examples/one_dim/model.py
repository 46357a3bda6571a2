"""One latent c per class, and single numbers: a model of own nodes, registered with the library's.

p(c) = N(0, I). q(c; D) is a Gaussian whose mean and (raw) scale are linear in the mean over D of the numbers' own
coordinates: x itself, the point (cos x, sin x) of an angle, the unit vector of one of 8 values. p(x | c) is of the
right family; its parameters are linear in c. There is no latent of the single number.
"""

from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from examples.one_dim.likelihoods import FAMILIES, family, num_params
from hfsgm_jax.distributions import softplus_normal
from hfsgm_jax.errors import ConfigError
from hfsgm_jax.keys import Key, number, one_of, several, whole
from hfsgm_jax.models import Node, SetModel, constructor
from hfsgm_jax.nn.layers import Dense
from hfsgm_jax.trace import SET, masked_mean


class Points(nn.Module):
    """Numbers ``[B, N, 1, 1, 1]`` -> their coordinates ``[B, N, features]``; nothing is learned."""

    family: str

    def __call__(self, images: jax.Array, observed: jax.Array, train: bool) -> jax.Array:
        return FAMILIES[self.family].points(images[..., 0, 0, :])


class MeanNode(Node):
    """c, p(c) = N(0, I): q(c; D) is linear in the mean of D."""

    plate: str = SET

    def setup(self):
        self.to_moments = Dense(2 * self.channels)

    def posterior(self, state, features, sets, train):
        return softplus_normal(self.to_moments(masked_mean(features, self.context(sets)))), None


class Parameters(nn.Module):
    """c ``[B, 1, channels]`` -> the family's parameters of every number, ``[B, M, 1, 1, num]``; linear."""

    num: int

    @nn.compact
    def __call__(self, values: dict[str, tuple[jax.Array, ...]], observed: jax.Array, train: bool) -> jax.Array:
        params = Dense(self.num)(values[SET][0])
        return jnp.broadcast_to(params, (*observed.shape, self.num))[..., None, None, :]


class FamilyHead(nn.Module):
    """The family's parameters -> p(x | c)."""

    family: str
    known: tuple[float, ...] = ()

    def __call__(self, params: jax.Array) -> Any:
        return family(self.family, params, self.known)


@constructor("one_dim")
def one_dim(
    image_shape: tuple[int, int, int] = (1, 1, 1),
    *,
    family: Annotated[str, Key(one_of(*FAMILIES), "law of a class")] = "gaussian",
    c_channels: Annotated[int, Key(whole(1, 1000), "numbers of c")] = 2,
    known: Annotated[
        tuple, Key(several(number(above=True), 0), "values of the last parameters; none: all are linear in c")
    ] = (),
) -> SetModel:
    """The model of a family, of images of one pixel."""
    if image_shape != (1, 1, 1):
        raise ConfigError(f"image_shape={image_shape}: this model is of single numbers, (1, 1, 1)")
    if len(known) not in (0, FAMILIES[family].num_known):
        raise ConfigError(
            f"known={known}: of family={family!r} none or the last {FAMILIES[family].num_known} are known"
        )
    return SetModel(
        encoder=Points(family),
        nodes=(MeanNode(channels=c_channels),),
        decoder=Parameters(num_params(family, known)),
        likelihood=family,
        image_shape=image_shape,
        head=FamilyHead(family, tuple(known)),
    )
