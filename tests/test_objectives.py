"""Estimators against exact values on a linear-Gaussian set model; the reductions under masks."""

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import multivariate_normal

from hfsgm_jax import objectives
from hfsgm_jax.distributions import Normal
from hfsgm_jax.trace import IMAGE, SET, Latent, Sets, Trace

NOISE = 0.5  # standard deviation of x given z


@flax.struct.dataclass
class Pixels:
    """p(x | z) = N(z, NOISE^2) of one-pixel images, batch shape [B, N]."""

    loc: jax.Array

    def log_prob(self, x):
        return Normal(self.loc, jnp.float32(NOISE)).log_prob(x[..., 0, 0, 0])


def _data(rows=3, slots=4):
    return 1.5 * jax.random.normal(jax.random.key(7), (rows, slots, 1, 1, 1))


def _exact(x):
    """log p(X) of each row: c ~ N(0, 1), z_s ~ N(c, 1), x_s ~ N(z_s, NOISE^2)."""
    n = x.shape[1]
    covariance = jnp.eye(n) * (1 + NOISE**2) + jnp.ones((n, n))
    return multivariate_normal.logpdf(x[..., 0, 0, 0], jnp.zeros(n), covariance)


def _posterior_c(x):
    """The exact q(c | X)."""
    n, variance = x.shape[1], 1 + NOISE**2
    precision = 1 + n / variance
    mean = x[..., 0, 0, 0].sum(1) / variance / precision
    return Normal(mean[:, None, None], jnp.full((x.shape[0], 1, 1), precision**-0.5))


def _posterior_z(x, c):
    """The exact q(z_s | x_s, c)."""
    precision = 1 + NOISE**-2
    loc = (c + x[..., 0, 0] * NOISE**-2) / precision
    return Normal(loc, jnp.full(loc.shape, precision**-0.5))


def _trace(x, key, wider=1.0, sees_images=False):
    """A trace of the toy model; ``wider`` than 1 makes q worse than exact."""
    key_c, key_z = jax.random.split(key)
    q_c = _posterior_c(x)
    q_c = Normal(q_c.loc, q_c.scale * wider)
    c = q_c.sample(key_c)
    q_z = _posterior_z(x, c)
    q_z = Normal(q_z.loc, q_z.scale * wider)
    z = q_z.sample(key_z)
    prior_c, prior_z = Normal.standard(c.shape), Normal(jnp.broadcast_to(c, c.shape), jnp.ones(c.shape))
    latents = (Latent(c, prior_c, q_c, None, SET, 1, "c1"), Latent(z, prior_z, q_z, None, IMAGE, 1, "z1"))
    return Trace(latents, None, Pixels(z[..., 0]), None, sees_images)


def test_with_the_exact_posterior_every_weight_is_the_exact_likelihood():
    x = _data()
    for seed in range(3):
        weight = objectives.log_weight(_trace(x, jax.random.key(seed)), Sets.of(x))
        np.testing.assert_allclose(weight, _exact(x), rtol=1e-4, atol=1e-4)


def test_importance_bound_reaches_the_exact_likelihood_and_the_elbo_stays_below():
    x = _data()
    draw = lambda key: objectives.log_weight(_trace(x, key, wider=1.3), Sets.of(x))  # noqa: E731
    bound = objectives.importance_bound(draw, jax.random.key(0), 20_000, chunk=500)
    weights = jax.vmap(draw)(jax.random.split(jax.random.key(1), 4000))
    ratio = jnp.exp(weights - _exact(x))
    error = ratio.std(0) / np.sqrt(20_000)  # of the mean weight over p(X), so of the bound too
    assert (jnp.abs(bound - _exact(x)) < 5 * error).all(), (bound, _exact(x), error)
    assert (weights.mean(0) < _exact(x) - 0.05).all()


def test_bound_is_the_log_mean_exp_whatever_the_chunk():
    x, key = _data(), jax.random.key(3)
    draw = lambda key: objectives.log_weight(_trace(x, key, wider=1.5), Sets.of(x))  # noqa: E731
    weights = jax.vmap(lambda k: draw(jax.random.fold_in(key, k)))(jnp.arange(24))
    expected = jax.nn.logsumexp(weights, 0) - np.log(24)
    for chunk in (1, 7, 24, 100):
        np.testing.assert_allclose(objectives.importance_bound(draw, key, 24, chunk), expected, rtol=1e-5)
    # Jensen, on the same weights: the bound grows with K.
    groups = lambda k: (jax.nn.logsumexp(weights.reshape(-1, k, 3), 1) - np.log(k)).mean(0)  # noqa: E731
    for small, large in ((1, 2), (2, 8), (8, 24)):
        assert (groups(small) <= groups(large) + 1e-5).all()


def test_losses_add_up_to_the_negative_elbo_of_the_whole_set():
    x = _data()
    draws = [_trace(x, jax.random.key(seed), wider=1.2) for seed in range(400)]
    sums = [objectives.weighted_sums(trace, Sets.of(x)) for trace in draws]
    elbo = np.mean([objectives.log_weight(trace, Sets.of(x)).sum() for trace in draws])
    nelbo = np.mean([s["nelbo"] for s in sums])
    spread = np.std([objectives.log_weight(trace, Sets.of(x)).sum() for trace in draws]) / 20
    assert abs(nelbo + elbo) < 6 * spread  # analytic KL against log q - log p
    assert sums[0]["count"] == x.shape[0] * x.shape[1]


@pytest.mark.parametrize("name,weight", [("ns", 1 / 2), ("resample", 1 / 2), ("rescale", 1 / 20), ("vhe", 1 / 20)])
def test_objectives_share_the_kl_of_c_among_the_right_images(name, weight):
    x = _data()
    context = jnp.array([[True, True, False, False]] * 3)
    sets = Sets.of(x, context=context, target=~context, class_size=jnp.full(3, 20.0))
    trace = _trace(x, jax.random.key(0))
    sums = objectives.weighted_sums(trace, sets, objective=name)
    kl_c = objectives.latent_kl(trace["c1"])[:, 0]
    np.testing.assert_allclose(sums["kl_c"], (2 * weight * kl_c).sum(), rtol=1e-5)
    np.testing.assert_allclose(sums["kl_z"], objectives.latent_kl(trace["z1"])[:, 2:].sum(), rtol=1e-5)
    np.testing.assert_allclose(sums["log_px"], trace.px.log_prob(x)[:, 2:].sum(), rtol=1e-5)
    assert sums["count"] == 6


def test_a_prior_that_sees_images_keeps_their_kl():
    x = _data()
    sets = Sets.of(x, target=jnp.array([[True, False, False, False]] * 3))
    seen = objectives.weighted_sums(_trace(x, jax.random.key(0), sees_images=True), sets)
    blind = objectives.weighted_sums(_trace(x, jax.random.key(0)), sets)
    kl = objectives.latent_kl(_trace(x, jax.random.key(0))["z1"])
    np.testing.assert_allclose(seen["kl_z"], kl.sum(), rtol=1e-5)
    np.testing.assert_allclose(blind["kl_z"], kl[:, 0].sum(), rtol=1e-5)


def test_alpha_warmup_and_free_bits_reweight_the_loss_alone():
    x, trace = _data(), _trace(_data(), jax.random.key(0))
    plain = objectives.weighted_sums(trace, Sets.of(x))
    np.testing.assert_allclose(plain["loss"], plain["nelbo"], rtol=1e-6)
    sums = objectives.weighted_sums(trace, Sets.of(x), alpha=2.0, kl_weight=0.5, free_bits=100.0)
    kl = plain["kl_z"] + 100.0 * plain["count"]  # every row is below the free bits
    np.testing.assert_allclose(sums["loss"], -3 * plain["log_px"] + 0.5 * kl / 3, rtol=1e-5)
    chex.assert_trees_all_close(sums["nelbo"], plain["nelbo"])
