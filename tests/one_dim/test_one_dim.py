"""Single numbers: their data, likelihoods and models, against exact values."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from tiny_one_dim import SHAPE, exact_gaussian

from examples.one_dim import laws
from examples.one_dim import likelihoods as families
from examples.one_dim.model import one_dim
from hfsgm_jax import data, default_config, objectives, sampling
from hfsgm_jax.errors import ConfigError, DataError
from hfsgm_jax.trace import Plan, Sets

ALL = laws.FAMILIES


def as_images(x):
    return jnp.asarray(x, jnp.float32)[..., None, None, None]


def of_class(family, theta):
    """The likelihood whose parameters are those of the data's class ``theta``."""
    inverse = lambda y: np.log(np.expm1(y - families.MIN_POSITIVE))  # of what `family` does
    if family == "discrete":
        params = np.where(np.isin(np.arange(1, 9), laws.SUBSETS[theta]), 0.0, -40.0)
    elif family == "von_mises":
        params = 3 * np.array([np.cos(theta), np.sin(theta)])  # a direction, whatever its length
    else:
        params = np.array([inverse(theta) if family == "gamma" else theta])
    return families.family(family, jnp.asarray(params)[None, None], laws.SHARED[family])


# --- data ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ALL)
def test_data_are_classes_of_their_family(family):
    config, dataset = default_config("one_dim").data, laws.numbers(family, 0)
    config.update(image_size=1, binarize="none")
    splits = [data.load_dataset(config, split, dataset=dataset) for split in ("train", "val", "test")]
    assert [s.images.shape for s in splits] == [(10_000, *SHAPE)] * 3 and splits[0].images.dtype == np.float32
    assert all((s.size == 100).all() and s.num_classes == 100 for s in splits)
    np.testing.assert_array_equal(laws.numbers(family, 0).images, dataset.images)
    assert (laws.numbers(family, 1).images != dataset.images).any()
    x = np.concatenate([s.images.reshape(100, 100) for s in splits]).astype(float)
    if family.startswith("gaussian"):
        spread = {"gaussian": laws.SIGMA, "gaussian_mixture": np.hypot(laws.SIGMA, laws.GAP / 2)}[family]
        np.testing.assert_allclose(np.sqrt(x.var(1).mean()), spread, rtol=0.02)
        assert abs(x.mean(1).std() - 1) < 0.15
    if family == "gamma":  # mean and variance of a class are its shape
        assert (x > 0).all() and 1 < np.median(x.mean(1)) < 10
        assert abs((x.var(1) / x.mean(1)).mean() - 1) < 0.05
    if family == "von_mises":
        length = np.abs(np.exp(1j * x).mean(1))
        expected = stats.vonmises.expect(np.cos, (laws.KAPPA,), lb=-np.pi, ub=np.pi)
        np.testing.assert_allclose(length.mean(), expected, rtol=0.02)
    if family == "discrete":
        found = {tuple(np.unique(row).astype(int)) for row in x}
        assert found == {tuple(subset) for subset in laws.SUBSETS}


def test_numbers_are_not_binarised():
    with pytest.raises(DataError, match="dynamic.*none"):
        data.fixed_sets(laws.numbers("gaussian", 0), 5, 2, seed=0, binarize="dynamic")


def test_likelihood_of_whole_gaussian_classes_is_the_closed_form():
    x = np.random.default_rng(0).normal(0.7, 0.3, (2, 12))
    covariance = np.eye(12) * laws.SIGMA**2 + 1
    expected = stats.multivariate_normal.logpdf(x, np.zeros(12), covariance)
    np.testing.assert_allclose(laws.exact_log_likelihood("gaussian", x), expected, rtol=1e-6)


def test_likelihood_of_whole_classes_sums_to_one():
    """Over all pairs of numbers, by a sum or a fine grid."""
    x, cell = np.arange(1.0, 9), 1.0
    pairs = np.stack(np.meshgrid(x, x), -1).reshape(-1, 2)
    assert abs(np.exp(laws.exact_log_likelihood("discrete", pairs)).sum() - 1) < 1e-9
    x, cell = np.linspace(-np.pi, np.pi, 40, endpoint=False), 2 * np.pi / 40
    pairs = np.stack(np.meshgrid(x[:1], x), -1).reshape(-1, 2)  # p(x1) is uniform on the circle
    total = np.exp(laws.exact_log_likelihood("von_mises", pairs)).sum() * cell
    np.testing.assert_allclose(total, 1 / (2 * np.pi), rtol=1e-4)


# --- likelihoods -----------------------------------------------------------------------------------


@pytest.mark.parametrize("family,theta", [(f, t) for f in ALL for t in ((0, 3) if f == "discrete" else (1.7, 2.9))])
def test_likelihoods_are_the_laws_of_the_data_and_sum_to_one(family, theta):
    x = {"von_mises": np.linspace(-np.pi, np.pi, 4001), "gamma": np.linspace(1e-4, 40, 4001)}
    x = np.arange(1, 9) if family == "discrete" else x.get(family, np.linspace(-8, 8, 4001))
    found = jax.device_get(jax.jit(lambda: of_class(family, theta).log_prob(as_images(x)))())
    expected = laws.log_density(family, theta, x)
    inside = expected > -30
    np.testing.assert_allclose(found[inside], expected[inside], rtol=1e-4, atol=1e-3)
    assert (found[~inside] < -25).all()
    density = np.exp(np.asarray(found, np.float64))
    total = density.sum() if family == "discrete" else np.trapezoid(density, x)
    np.testing.assert_allclose(total, 1, rtol=1e-4)


@pytest.mark.parametrize("family", ALL)
def test_samples_follow_the_density(family):
    theta = 1 if family == "discrete" else 1.8
    px = of_class(family, theta)
    draws = np.asarray(jax.jit(lambda key: jax.vmap(px.sample)(jax.random.split(key, 4000)))(jax.random.key(0)))
    assert draws.shape == (4000, *SHAPE) and px.mean().shape == SHAPE
    draws = draws.ravel().astype(float)
    if family == "discrete":
        counts = np.bincount(draws.astype(int), minlength=9)
        assert (counts[5:] > 850).all() and counts.sum() == counts[5:].sum()
        np.testing.assert_allclose(px.mean(), 6.5, rtol=1e-5)
        return
    grid = np.linspace(draws.min() - 1, draws.max() + 1, 8001)
    if family == "von_mises":
        assert (np.abs(draws) <= np.pi + 1e-6).all()
        grid = np.linspace(-np.pi, np.pi, 8001)
    density = np.exp(laws.log_density(family, theta, grid))
    cdf = np.cumsum(np.where(np.isfinite(density), density, 0)) * (grid[1] - grid[0])
    assert stats.kstest(draws, lambda x: np.interp(x, grid, cdf)).pvalue > 1e-3
    np.testing.assert_allclose(px.mean().ravel()[0], theta, rtol=1e-5)


@pytest.mark.parametrize("family", ALL)
def test_gradients_are_finite_where_there_is_no_number(family):
    """Empty slots hold 0, where the density of gamma is 0 or infinite."""
    params = np.random.default_rng(0).normal(size=(1, 1, families.num_params(family))).astype(np.float32)
    of = lambda p: jnp.where(False, families.family(family, p).log_prob(jnp.zeros(SHAPE)), 0.0)
    chex.assert_tree_all_finite(jax.device_get(jax.jit(jax.grad(of))(params)))


# --- models ----------------------------------------------------------------------------------------


def build(family, known=()):
    return one_dim(family=family, known=known)


def variables_of(model, scale=0.5):
    """Random ones, nothing at zero."""
    sets = Sets.of(jnp.ones((1, 2, *SHAPE)))
    keys = {"params": jax.random.key(0), "sample": jax.random.key(1)}
    shapes = jax.eval_shape(lambda: model.init(keys, sets, Plan()))
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda x: jnp.asarray(scale * rng.normal(size=x.shape), jnp.float32), shapes)


def numbers(rows, num=6):
    key_c, key_x = jax.random.split(jax.random.key(5))
    return as_images(jax.random.normal(key_c, (rows, 1)) + laws.SIGMA * jax.random.normal(key_x, (rows, num)))


def test_joint_bound_reaches_the_exact_likelihood():
    model, x = build("gaussian", (laws.SIGMA,)), numbers(rows=200)
    num = x.shape[1]
    exact = laws.exact_log_likelihood("gaussian", np.asarray(x).reshape(-1, num))

    @jax.jit
    def bounds(params):
        apply, _ = sampling.bind(model, {"params": params})
        return objectives.joint_bounds(apply, Sets.of(x), jax.random.key(0), (1, 2000), chunk=500)

    for bound in bounds(exact_gaussian(num)):  # with the exact posterior every weight is p(X)
        np.testing.assert_allclose(bound, exact, rtol=1e-4, atol=1e-3)
    elbo, bound = bounds(exact_gaussian(num, wider=1.7))
    np.testing.assert_allclose(bound, exact, atol=0.12)
    np.testing.assert_allclose(bound.mean(), exact.mean(), atol=0.01)
    # KL(q || p(c | X)) of q wider by 1.7, up to the error of the mean over the rows.
    gap = exact - elbo
    assert abs(gap.mean() - ((1.7**2 - 1) / 2 - np.log(1.7))) < 5 * gap.std() / 200**0.5


@pytest.mark.parametrize("family", ALL)
def test_only_the_context_informs_c_and_every_parameter_gets_a_gradient(family):
    model = build(family)
    variables = variables_of(model)
    x = as_images(np.array([[1, 2, 3, 4], [5, 6, 7, 8]]) / (1 if family == "discrete" else 4))
    context = jnp.array([[True, True, False, False], [False] * 4])
    sets = Sets.of(x, context=context, target=~context)

    @jax.jit
    def run(params, sets):
        def loss(params):
            trace = model.apply({"params": params}, sets, Plan(), rngs={"sample": jax.random.key(0)})
            return objectives.OBJECTIVES["vhe"].sums(trace, sets)["loss"], trace

        return jax.grad(loss, has_aux=True)(params)

    grads, trace = jax.device_get(run(variables["params"], sets))
    assert all((leaf != 0).any() and np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    (c,) = trace.latents
    assert (c.label, c.value.shape) == ("c1", (2, 1, 2))
    assert (c.posterior.loc[1] == 0).all() and (jax.jit(objectives.latent_kl)(c)[1] == 0).all()  # no context: the prior
    _, other = run(variables["params"], sets.replace(images=x.at[:, 2:].set(1.0)))
    chex.assert_trees_all_equal(other.latents, trace.latents)
    swapped = jnp.array([1, 0, 2, 3])
    _, other = run(variables["params"], sets.replace(images=x[:, swapped]))
    chex.assert_trees_all_close(other.latents[0].posterior, c.posterior, rtol=1e-6)
    apply, encode = sampling.bind(model, variables)
    _, drawn = sampling.conditional(apply, encode, sets, 3, jax.random.key(0))
    assert drawn.shape == (2, 3, *SHAPE)
    chex.assert_tree_all_finite(drawn)


@pytest.mark.parametrize(
    "keywords,shape,words",
    [
        (dict(family="gausian"), SHAPE, ["family='gausian'", "did you mean 'gaussian'"]),
        (dict(), (28, 28, 1), ["(28, 28, 1)", "single numbers"]),
        (dict(known=(0.3, 1.5)), SHAPE, ["known=(0.3, 1.5)", "gaussian", "last 1"]),
        (dict(known=(-1.0,)), SHAPE, ["known=(-1.0,)", "above 0"]),
    ],
)
def test_impossible_models_are_refused_with_the_reason(keywords, shape, words):
    with pytest.raises(ConfigError) as error:
        one_dim(shape, **keywords)
    assert all(word in str(error.value) for word in words), error.value
