"""Classifiers: exact on a linear-Gaussian set model, and what a score depends on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_gaussian import NOISE, Pixels
from tiny_model import random_variables

from hfsgm_jax import FewShotModel, classification, sampling
from hfsgm_jax.distributions import Normal
from hfsgm_jax.errors import NotApplicable
from hfsgm_jax.models import MODELS
from hfsgm_jax.trace import IMAGE, SET, Latent, Sets, Trace


def posterior(x, mask):
    """Mean and variance ``[B]`` of the exact q(c | X); c ~ N(0, 1), z ~ N(c, 1), x ~ N(z, NOISE^2)."""
    variance = 1 / (1 + mask.sum(1) / (1 + NOISE**2))
    return variance * (x[..., 0, 0, 0] * mask).sum(1) / (1 + NOISE**2), variance


def gaussian(sets, plan, key, given=None, features=None, temperature=None):
    """A traversal of that model with exact posteriors."""
    np.testing.assert_array_equal(features.shape, sets.images.shape)
    key_c, key_z = jax.random.split(key)
    t = temperature or {SET: 1.0, IMAGE: 1.0}
    loc, variance = posterior(sets.images, sets.context[SET])
    prior_c = Normal.standard((sets.num_rows, 1, 1))
    q_c = Normal(loc[:, None, None], variance[:, None, None] ** 0.5) if plan.source(SET, 1) == "posterior" else prior_c
    c = given["c1"] if given else q_c.at(jax.random.normal(key_c, q_c.loc.shape), t[SET])
    precision = 1 + NOISE**-2
    q_z = Normal((c + sets.images[..., 0, 0] * NOISE**-2) / precision, jnp.float32(precision**-0.5))
    noise = jax.vmap(jax.vmap(lambda s: jax.random.normal(jax.random.fold_in(key_z, s), (1,))))(sets.slots)
    z = q_z.at(noise, t[IMAGE])
    latents = (
        Latent(c, prior_c, q_c, None, SET, 1, "c1", sets.context[SET].any(1, keepdims=True)),
        Latent(z, Normal(jnp.broadcast_to(c, z.shape), jnp.ones(z.shape)), q_z, None, IMAGE, 1, "z1", sets.observed),
    )
    return Trace(latents, None, Pixels(z[..., 0]), None)


RUNS, SAMPLES = 16, 500


@functools.cache
def toy():
    """Three classes of 4, 4 and 2 images, five queries; moments of q(c | X_y), and the scores of each run."""
    x = 1.5 * jax.random.normal(jax.random.key(7), (3, 4, 1, 1, 1))
    mask = np.arange(4) < np.array([4, 4, 2])[:, None]
    queries = 1.5 * jax.random.normal(jax.random.key(8), (5, 1, 1, 1))
    score = functools.partial(classification.scores, gaussian, lambda sets: sets.images, num_samples=SAMPLES)
    runs = jax.vmap(functools.partial(score, num_samples_z=1), (None, None, 0))
    scores = jax.jit(runs)(Sets.of(x, mask), queries, jax.random.split(jax.random.key(0), RUNS))
    return *posterior(x, mask), queries[:, 0, 0, 0, None], jax.device_get(scores)


def predictive(mean, variance, x):
    """log p(x | X_y)."""
    return Normal(mean, jnp.sqrt(variance + 1 + NOISE**2)).log_prob(x)


def test_log_mean_is_the_posterior_predictive_density():
    mean, variance, x, scores = toy()
    exact, s = predictive(mean, variance, x), 1 + NOISE**2
    found = jax.nn.logsumexp(scores["log_mean"], 0) - np.log(RUNS)
    # E p(x|c)^2 is a Gaussian integral too: the standard error of the mean over c is known.
    second = Normal(mean, jnp.sqrt(variance + s / 2)).log_prob(x) - jnp.log(2 * jnp.sqrt(jnp.pi * s))
    error = jnp.sqrt((jnp.exp(second - 2 * exact) - 1) / (RUNS * SAMPLES))
    assert (jnp.abs(found - exact) < 4 * error).all(), (found, exact, error)


def test_mean_log_is_the_expected_log_density():
    mean, variance, x, scores = toy()
    s = 1 + NOISE**2
    exact = Normal(mean, jnp.sqrt(s)).log_prob(x) - 0.5 * variance / s
    error = jnp.sqrt((variance**2 / 2 + variance * (x - mean) ** 2) / s**2 / (RUNS * SAMPLES))
    assert (jnp.abs(scores["mean_log"].mean(0) - exact) < 4 * error).all()
    assert (scores["log_mean"] > scores["mean_log"]).all()


def test_elbo_difference_is_the_conditional_density_where_the_bound_is_tight():
    mean, variance, x, scores = toy()
    values = scores["elbo_difference"]
    error = values.std(0, ddof=1) / np.sqrt(RUNS)
    assert (jnp.abs(values.mean(0) - predictive(mean, variance, x)) < 5 * error).all()
    assert error.max() < 0.03


def test_kl_is_that_of_the_context_posteriors():
    mean, variance, x, scores = toy()
    single, single_variance = posterior(x[..., None, None, None], jnp.ones((5, 1)))
    expected = 0.5 * (
        ((mean - single[:, None]) ** 2 + variance) / single_variance[:, None]
        - 1
        - jnp.log(variance / single_variance[:, None])
    )
    np.testing.assert_allclose(scores["kl"][0], -expected, rtol=1e-4, atol=1e-5)


def test_memory_grows_with_samples_by_their_scores_alone():
    def temporary(num_samples, num_samples_z):
        score = functools.partial(classification.scores, gaussian, lambda sets: sets.images, num_samples=num_samples)
        program = jax.jit(functools.partial(score, num_samples_z=num_samples_z))
        x = jnp.zeros((3, 4, 1, 1, 1))
        compiled = program.lower(Sets.of(x), x[:, 0], jax.random.key(0)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    scores = 4 * 3 * 3 * 3 * 100  # bytes: classifiers, queries, classes, samples
    assert 0 < temporary(100, 50) < 1.1 * temporary(4, 3) + 2 * scores


def test_chunks_of_queries_change_nothing():
    x, queries = jax.random.normal(jax.random.key(3), (3, 4, 1, 1, 1)), jnp.linspace(-2, 2, 5).reshape(5, 1, 1, 1)
    run = functools.partial(classification.scores, gaussian, lambda sets: sets.images, num_samples=3, num_samples_z=2)
    expected, small = (
        jax.jit(functools.partial(run, chunk=c))(Sets.of(x), queries, jax.random.key(1)) for c in (99, 9)
    )
    for name, values in expected.items():  # 3 queries at once, padded to 6; those of [x, X_y] one by one
        np.testing.assert_allclose(small[name], values, rtol=1e-5, atol=1e-5)


# --- a model of the family ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def episode():
    """Three classes of 2, 1 and 3 images; four queries, one of them a support."""
    coarse = np.random.default_rng(0).uniform(size=(13, 4, 4, 1)) < np.linspace(0.1, 0.9, 13)[:, None, None, None]
    images = jnp.asarray(coarse.repeat(7, 1).repeat(7, 2), jnp.float32)
    supports, queries = images[:9].reshape(3, 3, 28, 28, 1), images[9:]
    mask = np.arange(3) < np.array([2, 1, 3])[:, None]
    return Sets.of(supports, mask), queries.at[2].set(supports[1, 0])


@pytest.fixture(scope="module")
def score(tiny):
    """score(supports, queries, **options), compiled once per options and shapes."""
    model, variables = tiny
    variables = jax.tree.map(lambda x: x * 4 / 3, variables)  # so that classes differ
    program = jax.jit(
        functools.partial(classification.scores, *sampling.bind(model, variables), shared_noise=True),
        static_argnames=("classifiers", "num_samples", "num_samples_z", "chunk"),
    )

    def run(supports, queries, **options):
        return jax.device_get(program(supports, queries, jax.random.key(2), num_samples=3, num_samples_z=2, **options))

    return run


@pytest.fixture(scope="module")
def results(score, episode):
    return score(*episode)


def test_every_classifier_scores_every_pair(results):
    assert set(results) == set(classification.CLASSIFIERS)
    for values in results.values():
        assert values.shape == (4, 3) and np.isfinite(values).all()
    assert (results["log_mean"] >= results["mean_log"]).all()  # Jensen, on the same samples


def test_a_query_that_is_the_support_set_has_no_divergence(results):
    values = results["kl"]
    np.testing.assert_allclose(values[2, 1], 0, atol=1e-5)
    assert np.delete(values.ravel(), 2 * 3 + 1).max() < -0.1


def test_classes_and_queries_are_scored_each_for_itself(score, episode, results):
    supports, queries = episode
    order, turned = np.array([2, 0, 1]), np.array([3, 1, 0, 2])
    permuted = score(jax.tree.map(lambda x: x[order], supports), queries[turned])
    other = score(supports, queries.at[1:].set(0.0))  # and what the padding holds
    padded = jnp.where(supports.observed[..., None, None, None], supports.images, 0.7)
    repainted = score(supports.replace(images=padded), queries)
    for name, values in results.items():
        np.testing.assert_allclose(permuted[name], values[turned][:, order], rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(other[name][0], values[0], rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(repainted[name], values, rtol=1e-5, atol=1e-3)
        assert np.abs(other[name][1] - values[1]).max() > 0.1


def test_all_layers_diverge_more_than_one(results):
    others = results["kl_all"] - results["kl"]
    assert (others <= 1e-4).all() and others.min() < -1e-4


@pytest.mark.parametrize("name", ["ns", "chfsgm"])
def test_members_whose_prior_sees_images_or_whose_latents_are_vectors(name, episode):
    model = MODELS[name](width=8, c_channels=2, z_channels=2, layers=2, blocks=1)
    apply, encode = sampling.bind(model, random_variables(model))
    out = jax.eval_shape(lambda key: classification.scores(apply, encode, *episode, key), jax.random.key(0))
    assert {name: x.shape for name, x in out.items()} == dict.fromkeys(classification.CLASSIFIERS, (4, 3))


def test_a_style_that_images_share_is_no_class():
    model = MODELS["factorial_vhe"](width=8, c_channels=2, z_channels=2, style_channels=2, context_prior="normal")
    few = FewShotModel(model, {})
    with pytest.raises(NotApplicable, match="styles too"):
        few.classify(np.zeros((1, 28, 28)), {"a": np.zeros((1, 28, 28)), "b": np.zeros((1, 28, 28))})


def test_a_model_without_shared_latents_cannot_classify(tiny_vae, episode):
    model, variables = tiny_vae
    for name in classification.CLASSIFIERS:
        with pytest.raises(ValueError, match="no latent shared by a set"):
            jax.eval_shape(
                lambda v, name=name: classification.scores(
                    *sampling.bind(model, v), *episode, jax.random.key(0), classifiers=(name,)
                ),
                variables,
            )
