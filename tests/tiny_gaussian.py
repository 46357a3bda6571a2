"""One-pixel images of a linear-Gaussian model, whose likelihoods are known exactly."""

import flax.struct
import jax
import jax.numpy as jnp

from hfsgm_jax.distributions import Normal

NOISE = 0.5  # standard deviation of x given z


@flax.struct.dataclass
class Pixels:
    """p(x | z) = N(z, NOISE^2) of one-pixel images, batch shape [B, N]."""

    loc: jax.Array

    def log_prob(self, x):
        return Normal(self.loc, jnp.float32(NOISE)).log_prob(x[..., 0, 0, 0])
