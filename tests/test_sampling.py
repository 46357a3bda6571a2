"""Samplers: shapes for any sizes, where latents come from, and what does not change the result."""

import functools
import itertools
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_model import random_variables

from hfsgm_jax import models, sampling
from hfsgm_jax.trace import IMAGE, PLATES, SET, Plan, Sets

SHAPE = (28, 28, 1)
STILL = dict.fromkeys(PLATES, 0.0)


def sets_of(rows, slots, sizes=None):
    images = jax.random.bernoulli(jax.random.key(0), 0.3, (rows, slots, *SHAPE)).astype(jnp.float32)
    mask = None if sizes is None else np.arange(slots) < np.asarray(sizes)[:, None]
    return Sets.of(images, mask)


def not_encoded(sets):
    """``encode`` that leaves the work to ``apply``."""
    return None


class Spy:
    """``apply`` that remembers how it was called."""

    def __init__(self, apply):
        self.apply, self.calls = apply, []

    def __call__(self, sets, plan, key, given=None, features=None, temperature=None):
        self.calls.append(types.SimpleNamespace(sets=sets, plan=plan, given=given))
        return self.apply(sets, plan, key, given=given, features=features, temperature=temperature)


@pytest.mark.parametrize(("slots", "num", "chunk"), [(1, 1, 64), (1, 5, 2), (7, 4, 3)])
def test_any_number_of_images_from_any_number(tiny, slots, num, chunk):
    apply, encode = sampling.bind(*tiny)
    sets, key = sets_of(2, slots), jax.random.key(1)
    for sampler in (sampling.conditional, sampling.one_pass, sampling.refine):
        out = jax.eval_shape(lambda key, f=sampler: f(apply, encode, sets, num, key, chunk=chunk), key)
        steps = (10,) if sampler is sampling.refine else ()
        assert [x.shape for x in out] == 2 * [(2, num, *steps, *SHAPE)]
    out = jax.eval_shape(lambda key: sampling.unconditional(apply, 2, num, SHAPE, key), key)
    assert [x.shape for x in out] == 2 * [(2, num, *SHAPE)]


def test_conditional_changes_with_its_context_only(tiny):
    """Chunks, features computed beforehand and padding are no part of the result."""
    apply, encode = sampling.bind(*tiny)
    key, padded = jax.random.key(1), sets_of(2, 4, sizes=[2, 0])
    means = lambda *args, **settings: sampling.conditional(*args, **settings)[0]
    conditional = jax.jit(means, static_argnums=(0, 1, 3), static_argnames="chunk")
    expected = np.asarray(conditional(apply, not_encoded, padded, 5, key))
    chunked = np.asarray(conditional(apply, encode, padded, 5, key, chunk=2))
    np.testing.assert_allclose(chunked, expected, atol=1e-5)
    other_padding = padded.replace(images=jnp.where(padded.observed[..., None, None, None], padded.images, 0.7))
    np.testing.assert_allclose(conditional(apply, not_encoded, other_padding, 5, key), expected, atol=1e-5)
    cut = Sets.of(padded.images[:, :2], padded.observed[:, :2])
    np.testing.assert_allclose(conditional(apply, not_encoded, cut, 5, key), expected, atol=1e-5)
    other_images = np.asarray(conditional(apply, not_encoded, padded.replace(images=1 - padded.images), 5, key))
    assert np.abs(other_images - expected)[0].max() > 1e-3  # two images of context
    np.testing.assert_allclose(other_images[1], expected[1], atol=1e-5)  # none: from the prior


def test_one_pass_gives_the_top_set_latent_and_nothing_else(tiny):
    spy = Spy(sampling.bind(*tiny)[0])
    jax.eval_shape(lambda key: sampling.one_pass(spy, not_encoded, sets_of(2, 3), 4, key), jax.random.key(0))
    _, new = spy.calls
    assert list(new.given) == ["c2"]
    assert new.plan.source(SET, 1) == new.plan.source(IMAGE, 2) == "prior"


def test_the_number_of_images_changes_none_of_them_where_the_prior_of_c_sees_images():
    model = models.hfsgm(width=8, encoder_width=2, layers=2, blocks=1, c_channels=2, z_channels=2)
    sets, key = sets_of(2, 2), jax.random.key(1)

    variables = jax.jit(model.init)({"params": key, "sample": key}, sets)
    rng = np.random.default_rng(0)  # nothing is at zero
    variables = jax.tree.map(lambda x: x + 0.1 * rng.normal(size=x.shape).astype(np.float32), variables)
    apply, encode = sampling.bind(model, variables)
    for draw in (
        lambda num: sampling.one_pass(apply, encode, sets, num, key, chunk=2)[0],
        lambda num: sampling.unconditional(apply, 2, num, SHAPE, key)[0],
    ):
        three, one = (np.asarray(jax.jit(draw, static_argnums=0)(num)) for num in (3, 1))
        np.testing.assert_allclose(three[:, :1], one, atol=1e-4)
        assert np.abs(three[:, 0] - three[:, 1]).max() > 1e-3


def test_pixels_of_every_chunk_are_drawn_anew():
    """Of latents without noise and pixels that follow one another: what differs is the noise of the pixels."""
    model = models.bns(width=4, c_channels=2, z_channels=2, blocks=1, encoder_width=2, pixelcnn_layers=1)
    apply, encode = sampling.bind(model, random_variables(model), STILL)
    call = lambda: sampling.conditional(apply, encode, sets_of(1, 2), 4, jax.random.key(1), chunk=2)[0]
    means = np.asarray(jax.jit(call)())[0]
    assert all((means[i] != means[j]).any() for i, j in itertools.combinations(range(4), 2))


def test_a_latent_sees_the_images_of_its_own_context(tiny):
    apply, _ = sampling.bind(*tiny)
    sets, first = sets_of(1, 3), np.array([[True, False, False]])
    posterior = jax.jit(lambda sets: apply(sets, Plan(), jax.random.key(1)).shared[0].posterior)
    other = sets.replace(images=sets.images.at[:, 1:].set(0.7))
    of_first = lambda sets: posterior(sets.replace(context={**sets.context, top: first}))
    top = tiny[0].shared_nodes[0].label
    chex.assert_trees_all_equal(of_first(sets), of_first(other))
    assert (posterior(sets).loc != posterior(other).loc).any()


def test_refinement_is_one_program_whatever_its_length(tiny):
    apply, encode = sampling.bind(*tiny)
    counts = []
    for iterations in (2, 40):
        spy = Spy(apply)
        refine = functools.partial(sampling.refine, spy, encode, num_iterations=iterations)
        jax.eval_shape(lambda key, refine=refine: refine(sets_of(2, 3), 4, key), jax.random.key(0))
        counts.append(len(spy.calls))
        assert spy.calls[-1].sets.images.shape == (2, 4, *SHAPE)  # every new image has a traversal of its own
    assert counts[0] == counts[1]


def test_refinement_feeds_back_draws_and_sees_the_context():
    """A stub whose mean says whether the fed-back image was binary, and what the context was."""

    def apply(sets, plan, key, given=None, features=None, temperature=None):
        x = sets.images[:, -1:]
        binary = ((x == 0) | (x == 1)).all((2, 3, 4), keepdims=True)
        mean = jnp.broadcast_to(jnp.where(binary, sets.images[:, :1].mean((2, 3, 4), keepdims=True), -1), x.shape)
        assert plan.decode == "target"
        draw = lambda key: jax.random.bernoulli(key, 0.5, x.shape).astype(jnp.float32)
        return types.SimpleNamespace(px=types.SimpleNamespace(mean=lambda: mean, sample=draw))

    levels = jnp.array([0.25, 0.75])
    sets = Sets.of(jnp.broadcast_to(levels[:, None, None, None, None], (2, 3, 4, 4, 1)))
    settings = dict(num_iterations=4, start=jnp.zeros((2, 3, 4, 4, 1)), chunk=2)
    mean, _ = sampling.refine(apply, not_encoded, sets, 3, jax.random.key(0), **settings)
    np.testing.assert_allclose(mean[:, :, -1].mean((2, 3, 4)), np.repeat(levels[:, None], 3, 1))


def test_means_and_draws_of_the_same_images(tiny):
    apply, encode = sampling.bind(*tiny)
    mean, drawn = jax.jit(lambda: sampling.conditional(apply, encode, sets_of(2, 2), 3, jax.random.key(1), chunk=2))()
    assert set(np.unique(drawn)) == {0, 1} and not np.isin(mean, (0, 1)).all()


def test_the_iterations_of_a_refinement_are_in_order():
    """A stub that adds 1 to the image."""

    def apply(sets, plan, key, given=None, features=None, temperature=None):
        x = sets.images[:, -1:] + 1
        return types.SimpleNamespace(px=types.SimpleNamespace(mean=lambda: x + 0.5, sample=lambda key: x))

    start = jnp.arange(3.0).reshape(1, 3, 1, 1, 1) * jnp.ones((2, 3, 4, 4, 1))
    sets = Sets.of(jnp.zeros((2, 2, 4, 4, 1)))
    mean, drawn = sampling.refine(
        apply, not_encoded, sets, 3, jax.random.key(0), num_iterations=4, start=start, chunk=2
    )
    assert mean.shape == drawn.shape == (2, 3, 4, 4, 4, 1)
    expected = jnp.arange(3.0)[:, None] + jnp.arange(1.0, 5.0)  # [chain, iteration]
    np.testing.assert_array_equal(drawn, jnp.broadcast_to(expected[None, :, :, None, None, None], drawn.shape))
    np.testing.assert_array_equal(mean, drawn + 0.5)


def test_without_shared_latents_there_is_no_conditioning(tiny_vae):
    model, variables = tiny_vae
    sets = sets_of(1, 2)

    def draw(variables, sampler):
        return sampler(*sampling.bind(model, variables), sets, 2, jax.random.key(0))

    for sampler in (sampling.conditional, sampling.one_pass, sampling.refine):
        with pytest.raises(ValueError, match="no latent shared by a set"):
            jax.eval_shape(lambda v, f=sampler: draw(v, f), variables)
