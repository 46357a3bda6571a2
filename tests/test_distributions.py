"""Distributions against independent computations, and at the edge of float32."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfsgm_jax import distributions as dist
from hfsgm_jax.distributions import Bernoulli, DiscretizedLogistics, DiscretizedNormal, Normal

LEVELS = jnp.arange(256) / 255.0


def _normal(key, shape=(64,)):
    loc, raw = jax.random.normal(key, (2, *shape))
    return Normal(loc, dist.softplus_scale(raw))


def test_kl_is_its_monte_carlo_estimate_and_not_negative():
    q, p = _normal(jax.random.key(0)), _normal(jax.random.key(1))
    samples = jax.vmap(q.sample)(jax.random.split(jax.random.key(2), 20_000))
    ratios = q.log_prob(samples) - p.log_prob(samples)
    error = ratios.std(0) / np.sqrt(len(ratios))
    assert (dist.kl(q, p) >= 0).all()
    assert (jnp.abs(ratios.mean(0) - dist.kl(q, p)) < 5 * error).all()


def test_kl_of_equal_distributions_is_exactly_zero():
    q = _normal(jax.random.key(0))
    assert (dist.kl(q, q) == 0).all()


def test_scales_start_at_one_and_stay_finite_and_positive():
    raw = jnp.array([-1e4, -50.0, 0.0, 50.0, 1e4])
    scale = dist.softplus_scale(raw)
    assert jnp.isfinite(scale).all() and (scale > 0).all()
    np.testing.assert_allclose(scale[2], 1.0, atol=2e-3)
    chex.assert_tree_all_finite(jax.vmap(jax.grad(lambda r: dist.softplus_scale(r)))(raw))
    for make in dist.NORMALS.values():
        normal = make(jnp.stack([raw, raw], -1))
        chex.assert_tree_all_finite(dist.kl(normal, Normal.standard(raw.shape)))


@pytest.mark.parametrize("name", sorted(dist.NORMALS))
@pytest.mark.parametrize("far", [-1e3, 1e3])
def test_a_latent_beyond_its_limits_is_led_back_and_no_farther(name, far):
    latent = lambda params: dist.NORMALS[name](jnp.array([params, 0.0])).loc[0]
    value, gradient = jax.value_and_grad(latent)(far)
    assert value == np.sign(far) * dist.LIMIT
    led_back = jax.grad(lambda params: latent(params) ** 2)(far)  # descent moves it towards 0
    assert led_back == 2 * value
    assert jax.grad(lambda params: -(latent(params) ** 2))(far) == 0
    assert gradient == (far > 0)
    assert jax.grad(latent)(1.0) == 1 and jax.grad(lambda params: -latent(params))(1.0) == -1


def test_bernoulli_sums_to_one_over_all_images():
    px = Bernoulli(jax.random.normal(jax.random.key(0), (2, 2, 1)) * 3)
    images = jnp.stack(jnp.meshgrid(*[jnp.array([0.0, 1.0])] * 4), -1).reshape(16, 2, 2, 1)
    np.testing.assert_allclose(jnp.exp(jax.vmap(px.log_prob)(images)).sum(), 1, rtol=1e-5)


@pytest.mark.parametrize("logit", [-1e4, -90.0, 90.0, 1e4])
def test_bernoulli_gradient_survives_saturated_logits(logit):
    wrong = jnp.full((1, 1, 1), float(logit < 0))
    grad = jax.grad(lambda value: Bernoulli(jnp.full((1, 1, 1), value)).log_prob(wrong))(logit)
    np.testing.assert_allclose(jnp.abs(grad), 1, rtol=1e-5)


def _logistics(channels, scale, key=0):
    count = DiscretizedLogistics.num_params(channels)
    params = scale * jax.random.normal(jax.random.key(key), (1, 1, count))
    return DiscretizedLogistics.from_params(params, channels)


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_discretized_likelihoods_sum_to_one_over_all_levels(scale):
    images = LEVELS[:, None, None, None]
    params = scale * jax.random.normal(jax.random.key(1), (1, 1, 2))
    for px in (_logistics(1, scale), DiscretizedNormal.from_params(params, 1)):
        total = jnp.exp(jax.jit(jax.vmap(px.log_prob))(images)).sum()
        np.testing.assert_allclose(total, 1, rtol=2e-3)
        exact, near = (jax.vmap(px.log_prob)(images[1:-1] + shift / 255) for shift in (0, 0.4))
        np.testing.assert_array_equal(near, exact)


def test_mixture_of_logistics_chains_its_channels():
    """Summed over all levels of blue, p(r, g, b) no longer depends on blue: conditionals sum to 1."""
    px = _logistics(3, 0.7)
    red_green = jnp.array([0.2, 0.6])
    images = jnp.concatenate([jnp.broadcast_to(red_green, (256, 2)), LEVELS[:, None]], -1)[:, None, None]
    over_blue = jax.nn.logsumexp(jax.jit(jax.vmap(px.log_prob))(images))
    two = DiscretizedLogistics(px.mixture, px.loc[..., :2, :], px.log_scale[..., :2, :], px.coupling[..., :1, :])
    np.testing.assert_allclose(over_blue, two.log_prob(red_green[None, None]), rtol=2e-3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
def test_gradients_of_logistics_are_finite_at_extremes(channels, scale):
    params = scale * jax.random.normal(jax.random.key(0), (2, 2, DiscretizedLogistics.num_params(channels)))
    x = jnp.linspace(0, 1, 4 * channels).reshape(2, 2, channels)

    def loss(params):
        return DiscretizedLogistics.from_params(params, channels).log_prob(x)

    value, grad = jax.jit(jax.value_and_grad(loss))(params)
    chex.assert_tree_all_finite((value, grad))


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
def test_gradients_of_the_discretized_normal_are_finite_at_extremes(scale):
    params = scale * jax.random.normal(jax.random.key(0), (2, 2, 2))
    x = jnp.linspace(0, 1, 4).reshape(2, 2, 1)
    chex.assert_tree_all_finite(jax.jit(jax.grad(lambda p: DiscretizedNormal.from_params(p, 1).log_prob(x)))(params))


@pytest.mark.parametrize("name,channels", [("bernoulli", 1), ("discretized_normal", 3), ("discretized_logistics", 3)])
def test_samples_and_means_are_images(name, channels):
    shape = (2, 3, 4, 4, dist.LIKELIHOODS[name].num_params(channels))
    px = dist.LIKELIHOODS[name].make(jax.random.normal(jax.random.key(0), shape), channels)
    sample, mean = jax.jit(px.sample)(jax.random.key(1)), jax.jit(px.mean)()
    chex.assert_shape([sample, mean], (2, 3, 4, 4, channels))
    chex.assert_shape(jax.eval_shape(px.log_prob, sample), (2, 3))
    assert ((sample >= 0) & (sample <= 1) & (mean >= 0) & (mean <= 1)).all()
    levels = sample * (1 if name == "bernoulli" else 255)
    np.testing.assert_allclose(levels, jnp.round(levels), atol=1e-3)


def test_likelihoods_compute_in_float32_from_bfloat16():
    px = dist.LIKELIHOODS["bernoulli"].make(jnp.zeros((1, 28, 28, 1), jnp.bfloat16), 1)
    np.testing.assert_allclose(px.log_prob(jnp.zeros((1, 28, 28, 1))), -784 * np.log(2), rtol=1e-6)


def test_select_picks_rows():
    mask = jnp.array([[True], [False]])
    a, b = Normal(jnp.ones((2, 1, 3)), jnp.ones((2, 1, 3))), Normal(jnp.zeros((2, 1, 3)), jnp.ones((2, 1, 3)))
    np.testing.assert_array_equal(dist.select(mask, a, b).loc[:, 0, 0], [1, 0])
