"""Estimators against exact values on linear-Gaussian set models; the reductions under masks."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from jax.scipy.stats import multivariate_normal
from tiny_gaussian import NOISE, Pixels

from hfsgm_jax import objectives
from hfsgm_jax.distributions import Normal
from hfsgm_jax.trace import IMAGE, SET, Latent, Plan, Sets, Trace


def _data(rows=3, slots=4):
    return 1.5 * jax.random.normal(jax.random.key(7), (rows, slots, 1, 1, 1))


@jax.jit
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


@functools.partial(jax.jit, static_argnames=("wider", "sees_images"))
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
    draw = lambda key: objectives.log_weight(_trace(x, key, wider=1.3), Sets.of(x))
    bound = jax.jit(lambda key: objectives.importance_bounds(draw, key, (20_000,), chunk=500)[0])(jax.random.key(0))
    weights = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(1), 4000))
    ratio = jnp.exp(weights - _exact(x))
    error = ratio.std(0) / np.sqrt(20_000)  # of the mean weight over p(X), so of the bound too
    assert (jnp.abs(bound - _exact(x)) < 5 * error).all(), (bound, _exact(x), error)
    assert (weights.mean(0) < _exact(x) - 0.05).all()


def test_bound_is_the_log_mean_exp_whatever_the_chunk():
    x, key = _data(), jax.random.key(3)
    draw = lambda key: objectives.log_weight(_trace(x, key, wider=1.5), Sets.of(x))
    weights = jax.device_get(jax.jit(jax.vmap(lambda k: draw(jax.random.fold_in(key, k))))(jnp.arange(24)))
    expected = scipy.special.logsumexp(weights, 0) - np.log(24)
    for chunk in (1, 7, 24, 100):
        bound = jax.jit(lambda key, chunk=chunk: objectives.importance_bounds(draw, key, (24,), chunk)[0])(key)
        np.testing.assert_allclose(bound, expected, rtol=1e-5)
    # Jensen, on the same weights: the bound grows with K.
    groups = lambda k: (scipy.special.logsumexp(weights.reshape(-1, k, 3), 1) - np.log(k)).mean(0)
    for small, large in ((1, 2), (2, 8), (8, 24)):
        assert (groups(small) <= groups(large) + 1e-5).all()


def test_losses_add_up_to_the_negative_elbo_of_the_whole_set():
    x = _data()

    @jax.jit
    @jax.vmap
    def both(key):
        trace, sets = _trace(x, key, wider=1.2), Sets.of(x)
        return objectives.loss_sums(trace, sets), objectives.log_weight(trace, sets).sum()

    sums, elbo = jax.device_get(both(jax.random.split(jax.random.key(0), 400)))
    # analytic KL against log q - log p
    assert abs(sums["nelbo"].mean() + elbo.mean()) < 6 * elbo.std() / 20
    assert sums["count"][0] == x.shape[0] * x.shape[1]


@pytest.mark.parametrize("name,weight", [("ns", 1 / 2), ("resample", 1 / 2), ("rescale", 1 / 20), ("vhe", 1 / 20)])
def test_objectives_share_the_kl_of_c_among_the_right_images(name, weight):
    x = _data()
    context = jnp.array([[True, True, False, False]] * 3)
    sets = Sets.of(x, context=context, target=~context, class_size=jnp.full(3, 20.0))
    trace = _trace(x, jax.random.key(0))
    sums = objectives.OBJECTIVES[name].sums(trace, sets)
    kl_c = objectives.latent_kl(trace["c1"])[:, 0]
    np.testing.assert_allclose(sums["kl_c"], (2 * weight * kl_c).sum(), rtol=1e-5)
    np.testing.assert_allclose(sums["kl_z"], objectives.latent_kl(trace["z1"])[:, 2:].sum(), rtol=1e-5)
    np.testing.assert_allclose(sums["log_px"], trace.px.log_prob(x)[:, 2:].sum(), rtol=1e-5)
    assert sums["count"] == 6


def test_a_prior_that_sees_images_keeps_their_kl():
    x = _data()
    sets = Sets.of(x, target=jnp.array([[True, False, False, False]] * 3))
    seen = objectives.loss_sums(_trace(x, jax.random.key(0), sees_images=True), sets)
    blind = objectives.loss_sums(_trace(x, jax.random.key(0)), sets)
    kl = objectives.latent_kl(_trace(x, jax.random.key(0))["z1"])
    np.testing.assert_allclose(seen["kl_z"], kl.sum(), rtol=1e-5)
    np.testing.assert_allclose(blind["kl_z"], kl[:, 0].sum(), rtol=1e-5)


def test_alpha_warmup_and_free_bits_reweight_the_loss_alone():
    x, trace = _data(), _trace(_data(), jax.random.key(0))
    plain = objectives.loss_sums(trace, Sets.of(x))
    np.testing.assert_allclose(plain["loss"], plain["nelbo"], rtol=1e-6)
    sums = objectives.loss_sums(trace, Sets.of(x), alpha=2.0, kl_weight=0.5, free_bits=100.0)
    kl = plain["kl_z"] + 100.0 * plain["count"]  # every row is below the free bits
    np.testing.assert_allclose(sums["loss"], -3 * plain["log_px"] + 0.5 * kl / 3, rtol=1e-5)
    chex.assert_trees_all_close(sums["nelbo"], plain["nelbo"])


# --- joint and nested importance sampling ---------------------------------------------------------
# Two layers: c2 ~ N(0, 1); z2_s ~ N(c2, 1); c1 ~ N(c2, 1); z1_s ~ N(c1 + z2_s, 1); x_s ~ N(z1_s, NOISE^2).


def _hierarchy(sets, plan, key, given=None, features=None, temperature=None, sees_images=False, wider=1.3):
    """A traversal of the model above; q(c1) sees the images' z2, as SCHA-VAE's does; q(z) is not exact."""
    x, b, n = sets.images[..., 0, 0], sets.num_rows, sets.num_slots
    keys = iter(jax.random.split(key, 4))
    latents = []

    def add(label, plate, prior, observation, variance, gain=1.0):
        """The value of a latent whose q is the posterior given ``observation`` ~ N(gain value, variance)."""
        count = sets.context[SET].sum(1)[:, None, None] if plate == SET else 1
        shape = (b, 1 if plate == SET else n, 1)
        prior = Normal(jnp.broadcast_to(prior, shape), jnp.ones(shape))
        precision = 1 + gain**2 * count / variance
        if plate == SET:
            observation = jnp.where(sets.context[SET][..., None], observation, 0).sum(1, keepdims=True)
        posterior = Normal((prior.loc + gain * observation / variance) / precision, precision**-0.5 * prior.scale)
        if plate == IMAGE:
            posterior = posterior.replace(scale=wider * posterior.scale)
        if plan.source(plate, int(label[1])) == "prior":
            posterior = prior
        value = posterior.sample(next(keys))
        value = (given or {}).get(label, value)
        latents.append(Latent(value, prior, posterior, None, plate, int(label[1]), label))
        return value

    rest = 1 + NOISE**2  # of x given c1 and z2
    c2 = add("c2", SET, 0.0, x, rest + 1 + n, 2.0)
    z2 = add("z2", IMAGE, c2, x - c2, rest + 1)
    c1 = add("c1", SET, c2, x - z2, rest)
    z1 = add("z1", IMAGE, c1 + z2, x, NOISE**2)
    return Trace(tuple(latents), None, Pixels(z1[..., 0]), None, sees_images)


@jax.jit
def _exact_hierarchy(x):
    n = x.shape[1]
    covariance = jnp.eye(n) * (2 + NOISE**2) + jnp.ones((n, n)) * 5.0
    return multivariate_normal.logpdf(x[..., 0, 0, 0], jnp.zeros(n), covariance)


def _sets_of_the_hierarchy(rows, slots, seed=3):
    key_c, key_x = jax.random.split(jax.random.key(seed))
    x = 5**0.5 * jax.random.normal(key_c, (rows, 1)) + 1.5 * jax.random.normal(key_x, (rows, slots))
    return Sets.of(x[..., None, None, None])


@pytest.mark.parametrize("estimator", ["joint", "nested"])
def test_estimators_are_unbiased(estimator):
    sets, runs = _sets_of_the_hierarchy(3, 3), 4000
    exact = _exact_hierarchy(sets.images)

    def once(key):
        if estimator == "joint":
            return objectives.joint_bounds(_hierarchy, sets, key, (4,))[0]
        return objectives.nested_bounds(_hierarchy, sets, key, (2,), 3, chunk=6)[0]

    ratios = jnp.exp(jax.jit(jax.vmap(once))(jax.random.split(jax.random.key(0), runs)) - exact)
    error = ratios.std(0) / np.sqrt(runs)
    assert (error < 0.1).all()  # or the next line would mean little
    assert (jnp.abs(ratios.mean(0) - 1) < 5 * error).all(), (ratios.mean(0), error)


def test_nested_is_closer_to_the_truth_than_joint_at_equal_cost():
    sets, apply = _sets_of_the_hierarchy(16, 20), functools.partial(_hierarchy, wider=2.0)
    exact, key = _exact_hierarchy(sets.images), jax.random.key(1)
    joint = jax.jit(lambda key: objectives.joint_bounds(apply, sets, key, (1000,), chunk=100)[0])(key)
    nested = jax.jit(lambda key: objectives.nested_bounds(apply, sets, key, (50,), 20, chunk=100)[0])(key)
    gap_joint, gap_nested = float((exact - joint).mean()), float((exact - nested).mean())
    assert gap_joint > 5 and abs(gap_nested) < 1, (gap_joint, gap_nested)  # the images' variances add up in one


@pytest.mark.parametrize("estimator", ["joint", "nested"])
def test_several_k_from_one_pass_are_those_of_passes_of_their_own(estimator):
    sets, key = _sets_of_the_hierarchy(2, 3), jax.random.key(2)

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def bounds(samples, chunk):
        if estimator == "joint":
            return objectives.joint_bounds(_hierarchy, sets, key, samples, chunk=chunk)
        return objectives.nested_bounds(_hierarchy, sets, key, samples, 4, chunk=chunk)

    together = bounds((5, 12), 5)
    alone = jnp.stack([bounds((k,), chunk)[0] for k, chunk in ((5, 3), (12, 100))])
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_nested_leaves_padding_out_and_refuses_a_prior_that_sees_images():
    sets, key = _sets_of_the_hierarchy(2, 3), jax.random.key(2)
    mask = jnp.array([[True, True, False]] * 2)
    padded = Sets.of(sets.images.at[:, 2].set(9.0), mask)
    other = Sets.of(sets.images.at[:, 2].set(-9.0), mask)
    nested = jax.jit(lambda sets: objectives.nested_bounds(_hierarchy, sets, key, (3,), 2))
    bounds = [nested(some) for some in (padded, other)]
    np.testing.assert_allclose(*bounds, rtol=1e-6)
    seeing = functools.partial(_hierarchy, sees_images=True)
    with pytest.raises(ValueError, match="independent given c"):
        objectives.nested_bounds(seeing, sets, key, (3,), 2)


def test_weights_of_images_and_of_c_make_up_the_weight_of_the_set():
    sets = _sets_of_the_hierarchy(2, 3)
    trace = jax.jit(_hierarchy, static_argnums=1)(sets, Plan(), jax.random.key(0))
    images, shared = objectives.image_log_weights(trace, sets), objectives.shared_log_ratio(trace, sets)
    assert images.shape == (2, 3) and (shared != 0).all()
    np.testing.assert_allclose(images.sum(1) + shared, objectives.log_weight(trace, sets), rtol=1e-5)
    with pytest.raises(ValueError, match="decode='all'"):
        objectives.image_log_weights(trace.replace(decoded=jnp.zeros((2, 1), jnp.int32)), sets)
