"""The tightened bound: the VHE's own where r is uniform, and above it where c tells which images were its context."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfsgm_jax import objectives, tightening
from hfsgm_jax.distributions import Normal
from hfsgm_jax.trace import SET, Latent, Sets, Trace

SIZE, LATENT = 4, 3


@pytest.fixture
def row():
    """One class of 4 images, and every context of 2 of them (with replacement) as a row."""
    members = jnp.array(np.stack(np.meshgrid(*[np.arange(SIZE)] * 2), -1).reshape(-1, 2), jnp.int32)
    b = len(members)
    c = jax.random.normal(jax.random.key(0), (b, 1, LATENT))
    normal = Normal(jnp.zeros_like(c), jnp.ones_like(c))
    trace = Trace((Latent(c, normal, normal, None, SET, 1, "c1"),), None, None, None)
    images = jnp.zeros((b, 2, 1, 1, 1))
    sets = Sets.of(images, class_size=jnp.full(b, SIZE), label=jnp.full(b, 5))
    return trace, sets.replace(member=members)


def params(scale):
    model = SimpleNamespace(nodes=[SimpleNamespace(plate=SET, event_shape=(LATENT,))])
    out = tightening.init(jax.random.key(1), model, labels=[2, 5], sizes=[7, 4])
    return out | {"embedding": scale * jax.random.normal(jax.random.key(2), out["embedding"].shape)}


def test_uniform_r_recovers_the_vhe_exactly(row):
    np.testing.assert_allclose(tightening.gain(params(0.0), *row), 0, atol=1e-6)


def test_r_is_a_distribution_over_contexts(row):
    """For one c, sum over all D of q'(D) * r(D; c) / q'(D) is 1: members beyond the class get nothing."""
    trace, sets = row
    same = trace.replace(latents=(trace.latents[0].replace(value=trace.latents[0].value[:1].repeat(16, 0)),))
    gains = tightening.gain(params(1.0), same, sets)
    np.testing.assert_allclose(jnp.exp(gains).mean(), 1, rtol=1e-5)
    assert gains.std() > 0.1


def test_the_gain_enters_the_loss_with_the_weight_of_the_class(row):
    trace, sets = row

    class Pixels:
        def log_prob(self, x):
            return jnp.zeros(x.shape[:2])

    trace = trace.replace(px=Pixels())
    share = objectives.class_share
    plain, gained = (objectives.loss_sums(trace, sets, share=share, gain=g) for g in (None, jnp.full(16, 2.0)))
    np.testing.assert_allclose(plain["loss"] - gained["loss"], 16 * 2 * 2.0 / SIZE, rtol=1e-6)
