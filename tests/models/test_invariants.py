"""The invariants of the design, over all models; each model's share one compiled program."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from family import FAMILY, ROWS, SLOTS, images, mask, member
from on_record import FILE, numbers

from hfsgm_jax import objectives
from hfsgm_jax.distributions import Normal
from hfsgm_jax.errors import UserError
from hfsgm_jax.trace import IMAGE, SET, Plan, Sets

CLOSE = dict(rtol=2e-4, atol=2e-4)  # float32 sums in another order, through some twenty layers


def of_each(names):
    """Tests of one model share its program, also where pytest-xdist spreads models (`--dist=loadgroup`)."""
    return pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in names])


every_model = of_each(FAMILY)


@every_model
def test_trace_is_ordered_and_everything_is_finite(name):
    trace, kls, log_weight, loss, grads = member(name)[2](Sets.of(images()))
    layers = {plate: [latent.layer for latent in trace.on(plate)] for plate in (SET, IMAGE)}
    assert all(found == list(range(len(found), 0, -1)) for found in layers.values())
    chex.assert_tree_all_finite((trace, log_weight, loss, grads))
    assert all((kls[latent.label] >= 0).all() for latent in trace.latents if isinstance(latent.prior, Normal))
    assert trace.px.log_prob(images()).shape == (ROWS, SLOTS)


@every_model
def test_numbers_are_those_on_record(name):
    """To the bit on the machine that wrote them; to 3e-7 with other instructions, which add up in another order."""
    found, recorded = numbers(name), json.loads(FILE.read_text())[name]
    assert found.keys() == recorded.keys()
    for key, value in recorded.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-5, err_msg=key)


@every_model
def test_every_parameter_gets_a_gradient(name):
    *_, grads = member(name)[2](Sets.of(images()))
    dead = [jax.tree_util.keystr(path) for path, g in jax.tree_util.tree_leaves_with_path(grads) if not (g != 0).any()]
    assert not dead


@every_model
def test_permuting_a_set_permutes_its_images_and_nothing_else(name):
    program, order = member(name)[2], np.array([2, 0, 3, 1])
    sets = Sets.of(images())
    trace, *_ = program(sets)
    moved, *_ = program(sets.replace(images=sets.images[:, order], slots=sets.slots[:, order]))
    for a, b in zip(trace.latents, moved.latents):
        np.testing.assert_allclose(a.value[:, order] if a.plate == IMAGE else a.value, b.value, **CLOSE)
    log_px, moved_log_px = trace.px.log_prob(sets.images), moved.px.log_prob(sets.images[:, order])
    np.testing.assert_allclose(log_px[:, order], moved_log_px, rtol=2e-4)


@every_model
def test_padding_changes_nothing(name):
    """Three images with padding at the end, or in the middle and of other pixels: the same."""
    program = member(name)[2]
    sets = Sets.of(images(), mask(0, 1, 2))
    order = np.array([0, 3, 1, 2])
    other = sets.replace(images=images().at[:, 3].set(0.7))
    other = jax.tree.map(lambda x: x[:, order] if x.ndim > 1 else x, other)
    trace, _, log_weight, loss, grads = program(sets)
    padded, _, other_weight, other_loss, other_grads = program(other)
    np.testing.assert_allclose(log_weight, other_weight, rtol=1e-4)
    np.testing.assert_allclose(loss, other_loss, rtol=1e-4)
    chex.assert_trees_all_close(grads, other_grads, rtol=1e-2, atol=1e-2)
    for a, b in zip(trace.on(SET), padded.on(SET)):
        np.testing.assert_allclose(a.value, b.value, **CLOSE)


@every_model
def test_pixels_of_an_unobserved_slot_change_nothing(name):
    program = member(name)[2]
    sets = Sets.of(images(), mask(0, 1, 2), present=mask(0, 1, 2, 3))
    changed = sets.replace(images=sets.images.at[:, 3].set(0.7))
    (trace, kls, *rest), (other, _, *other_rest) = program(sets), program(changed)
    chex.assert_trees_all_equal(jax.tree.leaves(trace.latents), jax.tree.leaves(other.latents))
    chex.assert_trees_all_equal(rest[0], other_rest[0])
    for latent in trace.on(IMAGE):  # drawn from its prior
        np.testing.assert_array_equal(kls[latent.label][:, 3], 0)


@every_model
def test_what_is_not_context_does_not_reach_a_posterior_of_c(name):
    program = member(name)[2]
    sets = Sets.of(images(), context=mask(0, 1, 2))
    changed = sets.replace(images=sets.images.at[:, 3].set(images(5)[:, 3]))
    trace, other = program(sets)[0], program(changed)[0]
    for a, b in zip(trace.on(SET), other.on(SET)):
        if not trace.prior_sees_images:
            np.testing.assert_array_equal(a.value, b.value)
        np.testing.assert_array_equal(a.posterior.loc, b.posterior.loc)
        np.testing.assert_array_equal(a.posterior.scale, b.posterior.scale)


@pytest.mark.parametrize("name", ["ns", "cns_lag"])
def test_batch_statistics_of_targets_do_not_see_the_context(name):
    model, variables, _ = member(name)
    sets = Sets.of(images(), context=mask(0, 1), target=mask(2, 3))
    changed = sets.replace(images=sets.images.at[:, :2].set(images(5)[:, :2]))
    plan, rngs = Plan(decode="target", num_decoded=2, train=True), {"sample": jax.random.key(0)}
    run = jax.jit(lambda sets, c: model.apply(variables, sets, plan, c, rngs=rngs, mutable="batch_stats")[0])
    c = {latent.label: latent.value for latent in member(name)[2](sets)[0].shared}
    for a, b in zip(run(sets, c).on(IMAGE), run(changed, c).on(IMAGE)):
        assert np.abs(a.posterior.loc[:, :2] - b.posterior.loc[:, :2]).max() > 1e-3
        np.testing.assert_allclose(a.posterior.loc[:, 2:], b.posterior.loc[:, 2:], atol=1e-6)


@pytest.mark.parametrize("name", ["ns", "scha_vae_pixelcnn"])
def test_the_decoder_alone_gives_what_the_traversal_gives(name):
    model, variables, program = member(name)
    sets = Sets.of(images())
    trace = program(sets)[0]
    log_px = lambda state: model.apply(variables, state, sets.images, method="decode").log_prob(sets.images)
    np.testing.assert_allclose(jax.jit(log_px)(trace.decoder_input), trace.px.log_prob(sets.images), rtol=1e-4)


def test_images_of_whole_numbers_are_refused():
    model, variables, _ = member("vae")
    with pytest.raises(UserError, match="dtype uint8 .* floats in"):
        model.apply(variables, Sets.of(np.full((2, 3, 28, 28, 1), 255, np.uint8)), Plan())


@every_model
def test_an_empty_context_is_the_prior(name):
    """Row 0 has no context, row 1 has one: each is treated as it should, in one program."""
    context = mask(0, 1).at[0].set(False)
    trace, kls, _, loss, grads = member(name)[2](Sets.of(images(), context=context))
    chex.assert_tree_all_finite((trace, loss, grads))
    for latent in trace.on(SET):
        np.testing.assert_array_equal(kls[latent.label][0], 0)
        assert kls[latent.label][1] != 0
        if isinstance(latent.prior, Normal):
            prior = jnp.broadcast_to(latent.prior.loc, latent.value.shape)
            np.testing.assert_array_equal(latent.posterior.loc[0], prior[0])
        if latent.weights is not None:
            np.testing.assert_array_equal(latent.weights[0], 0)


@every_model
def test_one_image_is_a_set(name):
    trace, _, log_weight, loss, grads = member(name)[2](Sets.of(images(), mask(2)))
    chex.assert_tree_all_finite((trace, log_weight, loss, grads))
    for latent in trace.on(SET):
        if latent.weights is not None:
            np.testing.assert_allclose(latent.weights[:, 2], 1, rtol=1e-6)


@every_model
def test_attention_is_a_distribution_over_the_context(name):
    trace = member(name)[2](Sets.of(images(), context=mask(0, 2)))[0]
    weights = [latent.weights for latent in trace.latents if latent.weights is not None]
    assert bool(weights) == (FAMILY[name][1].get("aggregate") == "lag")
    for weight in weights:
        np.testing.assert_allclose(weight.sum(1), 1, rtol=1e-5)
        np.testing.assert_array_equal(weight[:, 1], 0)


@every_model
def test_slots_have_noise_of_their_own(name):
    """Two equal images of a set get different latents; the same seed gives the same ones."""
    same = images().at[:, 1].set(images()[:, 0])
    program = member(name)[2]
    z = program(Sets.of(same))[0].on(IMAGE)[-1]
    np.testing.assert_allclose(z.posterior.scale[:, 0], z.posterior.scale[:, 1], rtol=2, atol=1)
    assert not np.allclose(z.value[:, 0], z.value[:, 1])
    np.testing.assert_array_equal(z.value, program(Sets.of(same))[0].on(IMAGE)[-1].value)
    assert not np.allclose(z.value, program(Sets.of(same), seed=1)[0].on(IMAGE)[-1].value)


ONE_OF_EACH = ("ns_lag", "scha_vae_lag")


@of_each(ONE_OF_EACH)
def test_a_shorter_batch_gives_the_same(name):
    """N = 3 against N = 4 with one slot of padding: two programs, one answer."""
    model, variables, program = member(name)
    short = Sets.of(images()[:, :3])
    trace = jax.jit(lambda sets: model.apply(variables, sets, Plan(), rngs={"sample": jax.random.key(0)}))(short)
    padded = program(Sets.of(images(), mask(0, 1, 2)))[0]
    for a, b in zip(trace.latents, padded.latents):
        np.testing.assert_allclose(a.value, b.value[:, : a.value.shape[1]], **CLOSE)
    np.testing.assert_allclose(
        objectives.log_weight(trace, short), program(Sets.of(images(), mask(0, 1, 2)))[2], rtol=1e-4
    )


@of_each(ONE_OF_EACH)
def test_gradients_are_finite_at_extreme_logits(name):
    """Logits of thousands, on the wrong side of half the pixels."""
    _, variables, program = member(name)
    extreme = jax.tree_util.tree_map_with_path(
        lambda path, x: 1e4 * x if "pixels" in jax.tree_util.keystr(path) else x, variables["params"]
    )
    *_, loss, grads = program(Sets.of(images()), params=extreme)
    chex.assert_tree_all_finite((loss, grads))


@every_model
def test_jit_is_eager(name):
    model, variables, program = member(name)
    trace = program(Sets.of(images()))[0]
    eager = model.apply(variables, Sets.of(images()), Plan(), rngs={"sample": jax.random.key(0)})
    chex.assert_trees_all_close(jax.tree.leaves(trace), jax.tree.leaves(eager), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ("hfsgm", "scha_vae_lag", "scha_vae_eq3"))
def test_plans_given_values_and_decoded_slots(name):
    """Shapes are traced only: prior, skip, given, and decoding a part."""
    model, variables, _ = member(name)

    def run(plan, **kwargs):
        def apply(key):
            return model.apply(
                variables,
                Sets.of(images(), mask(0, 1, 2), present=mask(0, 1, 2, 3)),
                plan,
                rngs={"sample": key},
                **kwargs,
            )

        return jax.eval_shape(apply, jax.random.key(0))

    for source in ("prior", "skip"):
        for plate in (SET, IMAGE):
            trace = run(Plan(sources=((plate, None, source),)))
            assert all(latent.weights is None for latent in trace.on(plate))
    trace = run(Plan(decode="unobserved", num_decoded=1), given={"c1": jnp.zeros(run(Plan())["c1"].value.shape)})
    assert trace.px.logits.shape == (ROWS, 1, 28, 28, 1)
    assert trace.decoded.shape == (ROWS, 1)
    with pytest.raises(KeyError, match="c9"):
        trace["c9"]
