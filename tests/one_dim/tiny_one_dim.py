"""Common parts of the tests of the 1D study."""

import jax
import jax.numpy as jnp
import numpy as np

from examples.one_dim import laws
from examples.one_dim.runs import study_config

SHAPE = (1, 1, 1)


def tiny_study(family="gaussian", objective="vhe", largest=3, known=()):
    """The config of a few steps of the study."""
    config = study_config(family, objective, largest, known=known)
    config.data.sets_per_batch = 4
    config.train.update(steps=3, steps_per_epoch=1)
    config.objective.kl_warmup = 2
    return config


def exact_gaussian(num, wider=1.0):
    """Variables of a Gaussian model with known sigma, and q(c; D) the exact posterior given ``num`` numbers.

    x ~ N(c_1, sigma^2), c ~ N(0, I): nothing informs c_2.
    """
    precision = 1 + num / laws.SIGMA**2
    scale = np.array([precision**-0.5, 1.0]) * [wider, 1.0]
    raw = np.log(np.expm1(np.log(2) * (scale - 1e-3))) / np.log(2)  # the inverse of softplus_scale
    moments = dict(kernel=np.zeros((1, 4)), bias=np.concatenate([np.zeros(2), raw]))
    moments["kernel"][0, 0] = num / laws.SIGMA**2 / precision
    decoder = dict(kernel=np.array([[1.0], [0.0]]), bias=np.zeros(1))
    params = {"nodes_0": {"to_moments": moments}, "decoder": {"Dense_0": decoder}}
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
