"""Building models: what is refused, and how they start."""

import chex
import family
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfsgm_jax import devices, models, objectives, sampling
from hfsgm_jax.errors import ConfigError
from hfsgm_jax.models import MODELS, build_model
from hfsgm_jax.nn import layers
from hfsgm_jax.nn.aggregate import Aggregate
from hfsgm_jax.nn.batch_normalised import ConvEncoder, ConvStack, grid_side
from hfsgm_jax.trace import IMAGE, SET, Plan, Sets, Skip

KEYS = {"params": jax.random.key(0), "sample": jax.random.key(1)}


@pytest.mark.parametrize(
    "name,keywords,words",
    [
        ("scha_vae", dict(aggregate="attention"), ["aggregate='attention'", "mean, max, lag"]),
        ("scha_vae", dict(likelihood="bernouli"), ["likelihood='bernouli'", "did you mean 'bernoulli'"]),
        ("scha_vae", dict(aggregate="lag", heads=5), ["heads=5", "128"]),
        ("scha_vae", dict(width=30), ["width=30", "multiple of 4"]),
        ("scha_vae", dict(width=10**9), ["width=1000000000", "at most 65536"]),
        ("scha_vae", dict(encoder="32-2,12-2", latents="12-1", decoder="32-1,12-1"), ["encoder", "divisor of the one"]),
        ("scha_vae", dict(encoder="28-2,14-1"), ["encoder", "start at 32"]),
        ("scha_vae", dict(latents="7-2"), ["latents", "no resolution 7"]),
        ("scha_vae", dict(decoder="32-2,16-2"), ["decoder", "from 32 to 8"]),
        ("scha_vae", dict(latents="8-0"), ["latents", "depth of at least 1"]),
        ("scha_vae", dict(latents="1-2,8-2"), ["latents", "high to low"]),
        ("scha_vae", dict(encoder="32x2"), ["encoder", "no list of resolution-depth pairs"]),
        ("scha_vae", dict(latents="8-1,0-1"), ["latents", "resolutions go from high to low"]),
        ("scha_vae", dict(patch=5), ["patch=5", "32"]),
        ("scha_vae", dict(z_channels=True), ["z_channels=True", "whole number"]),
        ("scha_vae", dict(layers=3), ["scha_vae has no keyword 'layers'"]),
        ("ns", dict(encoder_width=0), ["encoder_width=0"]),
        ("ns", dict(prior_sees_images=True), ["prior_sees_images", "hfsgm"]),
        ("pixelcnn_vhe", dict(pixelcnn_layers=-1), ["pixelcnn_layers=-1", "at least 0"]),
        ("pixelcnn_vhe", dict(context_prior="norm"), ["context_prior='norm'", "'normal'"]),
        ("pixelcnn_vhe", dict(context_kernel=29), ["context_kernel=29", "28 pixels"]),
    ],
)
def test_impossible_models_are_refused_with_the_reason(name, keywords, words):
    with pytest.raises(ConfigError) as error:
        MODELS[name](**keywords)
    assert all(word in str(error.value) for word in words), error.value


def test_a_section_of_a_config_is_a_name_and_keywords():
    model = build_model(dict(name="ns", width=8), (32, 32, 3))
    assert dict(model.made_of) | {"width": 8} == dict(model.made_of) and model.image_shape == (32, 32, 3)
    with pytest.raises(ConfigError, match="model.name='scha'.*did you mean 'scha_vae'"):
        build_model(dict(name="scha"), (28, 28, 1))
    with pytest.raises(ConfigError, match="model.width=0 is not a whole number"):
        build_model(dict(name="ns", width=0), (28, 28, 1))


@pytest.mark.parametrize("shape", [(30, 30, 1), (28, 32, 1), (28, 28, 2)])
def test_images_that_no_model_takes_are_refused(shape):
    with pytest.raises(ConfigError, match="28, 32, 40, 64"):
        models.scha_vae(shape)


@pytest.mark.parametrize("likelihood", ["bernoulli", "discretized_normal"])
def test_colour_pixels_in_turn_need_a_likelihood_that_couples_their_channels(likelihood):
    with pytest.raises(ConfigError, match="3 channels of a pixel independent.*discretized_logistics"):
        models.bns((28, 28, 3), pixelcnn_layers=2, likelihood=likelihood)
    models.bns(pixelcnn_layers=2, likelihood=likelihood)


SMALL = dict(width=8, c_channels=2, z_channels=2)
FACES = {
    "bns": dict(encoder_width=4),
    "ns": dict(encoder_width=4, layers=1),
    "hierarchical_vhe": dict(encoder_width=4),
    "pixelcnn_vhe": dict(context_kernel=5),
    "scha_vae": dict(encoder="40-1,20-1,10-1,5-1", latents="10-1,5-1", decoder="40-1,20-1,10-1"),
}


@pytest.mark.parametrize("name", FACES)
def test_images_of_40_pixels(name):
    """The faces of the VHE paper. Models whose latents are 4x4 maps cannot halve 40 pixels to 4."""
    model = MODELS[name]((40, 40, 3), likelihood="discretized_logistics", **SMALL, **FACES[name])
    sets = Sets.of(jnp.zeros((2, 3, 40, 40, 3)))
    trace, _ = jax.eval_shape(lambda: model.init_with_output(KEYS, sets, Plan()))
    assert jax.eval_shape(lambda px: px.log_prob(sets.images), trace.px).shape == (2, 3)
    with pytest.raises(ConfigError, match="40x40x3.*28, 32, 64 pixels"):
        models.cns((40, 40, 3))


def test_the_encoders_width_scales_its_convolutions_and_the_decoders():
    def shapes(width):
        model = models.bns(width=8, encoder_width=width)
        init = lambda: model.init(KEYS, Sets.of(jnp.zeros((1, 2, 28, 28, 1))), Plan())
        leaves = jax.tree_util.tree_leaves_with_path(jax.eval_shape(init)["params"])
        names = ((jax.tree_util.keystr(path), x) for path, x in leaves)
        return {name: x.shape for name, x in names if "Conv_" in name and "kernel" in name}

    full, quarter = shapes(64), shapes(16)
    assert {shape[-1] for shape in full.values()} == {64, 128, 256} and full.keys() == quarter.keys()
    assert all(quarter[name][-1] * 4 == shape[-1] for name, shape in full.items())


@pytest.mark.parametrize("size,channels", [(28, 1), (32, 3), (64, 3)])
@pytest.mark.parametrize("name", ["ns", "chfsgm", "scha_vae"])
def test_sizes_channels_and_likelihoods(size, channels, name):
    likelihood = "discretized_normal" if size == 32 else "discretized_logistics"
    keywords = dict(patch=size // 28, encoder="32-1,16-1,8-1,4-1", latents="8-1,4-1", decoder="32-1,16-1,8-1")
    keywords = keywords if name == "scha_vae" else {}
    model = MODELS[name]((size, size, channels), width=8, likelihood=likelihood, **keywords)
    sets = Sets.of(jnp.zeros((2, 3, size, size, channels)))
    trace, _ = jax.eval_shape(lambda: model.init_with_output(KEYS, sets, Plan()))
    assert jax.eval_shape(lambda px: px.log_prob(sets.images), trace.px).shape == (2, 3)
    mean, drawn = jax.eval_shape(sampling.mean_and_draw, trace.px, jax.random.key(0))
    assert mean.shape == drawn.shape == sets.images.shape


@pytest.mark.parametrize("size", [28, 32, 40, 64])
def test_where_the_strided_encoder_ends(size):
    """The last map before it becomes a vector, as it is computed."""
    sides = []

    def keep(next_method, args, kwargs, context):
        out = next_method(*args, **kwargs)
        sides.append(out.shape[-3]) if isinstance(context.module, ConvStack) else None
        return out

    images = jnp.zeros((1, 1, size, size, 1))
    with nn.intercept_methods(keep):
        jax.eval_shape(lambda: ConvEncoder(4, False, 2).init(jax.random.key(0), images, jnp.ones((1, 1), bool), False))
    assert sides == [grid_side(size)]


def test_a_loop_over_layers_changes_memory_alone():
    """Parameters, latents and gradients of `model.loop` are those without; a latent with a given value stands alone.

    Memory is what the forward pass keeps for the backward one; XLA compiles both to as much on a CPU.
    """
    sets, key = Sets.of(family.images()), jax.random.key(0)
    found = []
    for loop in (False, True):
        model = family.build("scha_vae_lag", loop=loop, patch=8, encoder="4-2", latents="4-3", decoder="4-2")
        variables = family.random_variables(model)

        def loss(variables, given, model=model):
            trace = model.apply(variables, sets, Plan(train=True), given, rngs={"sample": key})
            return objectives.loss_sums(trace, sets)["loss"], trace.latents

        kept = jax.eval_shape(lambda *args, loss=loss: jax.vjp(loss, *args, has_aux=True)[1], variables, {})
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))
        (_, latents), grads = devices.jit_once(jax.value_and_grad(loss, has_aux=True))(variables, {})
        given = {"c2": jnp.ones((1, 1, *model.shared_nodes[-2].event_shape))}
        partly = jax.eval_shape(loss, variables, given)[1]
        found.append((size, [latent.label for latent in latents + partly], (variables, latents, grads)))
    (size, labels, results), (other_size, other_labels, other_results) = found
    assert other_size < 0.8 * size and labels == other_labels
    chex.assert_trees_all_close(results, other_results, rtol=1e-3, atol=1e-3)


def test_scha_vae_starts_with_almost_no_kl():
    """At initialisation KL < 0.2 nats per image, NELBO about 784 log 2, all finite."""
    model = models.scha_vae(width=32, aggregate="lag", patch=4, encoder="8-1", latents="8-1", decoder="8-1")
    sets = Sets.of(jax.random.bernoulli(jax.random.key(2), 0.2, (4, 5, 28, 28, 1)).astype(jnp.float32))

    @jax.jit
    def start():
        keys = {name: jax.random.key(1, impl="unsafe_rbg") for name in KEYS}  # compiles faster
        trace, _ = model.init_with_output(keys, sets, Plan())
        return objectives.loss_sums(trace, sets)

    sums = start()
    assert (sums["kl_z"] + sums["kl_c"]) / sums["count"] < 0.2
    np.testing.assert_allclose(sums["nelbo"] / sums["count"], 784 * np.log(2), rtol=0.05)


def test_bfloat16_keeps_distributions_in_float32():
    model = models.scha_vae(width=8, dtype="bfloat16", patch=4, encoder="8-1", latents="8-1", decoder="8-1")
    sets = Sets.of(jnp.zeros((1, 2, 28, 28, 1)))
    trace, variables = jax.eval_shape(lambda: model.init_with_output(KEYS, sets, Plan()))
    assert {x.dtype for x in jax.tree.leaves(variables["params"])} == {jnp.dtype("float32")}
    assert {x.dtype for x in jax.tree.leaves((trace.latents, trace.px))} == {jnp.dtype("float32"), jnp.dtype("bool")}
    assert {x.dtype for x in jax.tree.leaves(trace.decoder_input)} == {jnp.dtype("bfloat16")}


def test_attention_in_its_written_order():
    """Keys and values of every image, as the paper writes it, give what the cheaper order gives."""
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 4, 8))
    mask = jnp.array([[True, True, False], [True, True, True]])
    module = Aggregate("lag", heads=2)
    params = module.init(jax.random.key(1), x, mask)
    out, weights = module.apply(params, x, mask)
    p = params["params"]["lag"]
    key, value = (p[name].reshape(8, 8) for name in ("key", "value"))
    mean = (x * mask[..., None, None, None]).sum(1) / mask.sum(1)[:, None, None, None]
    split = lambda a: a.reshape(*a.shape[:-1], 2, 4)
    query, keys = split(mean @ p["query"]["kernel"] + p["query"]["bias"]), split(x @ key)
    scores = jnp.einsum("bhwad,bnhwad->bna", query, keys) / np.sqrt(4 * 4 * 4)
    expected = jax.nn.softmax(jnp.where(mask[..., None], scores, -jnp.inf), 1)
    np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-6)
    values = jnp.einsum("bna,bnhwad->bhwad", expected, split(x @ value)).reshape(2, 1, 4, 4, 8)
    np.testing.assert_allclose(out, values + p["value_bias"], rtol=1e-4, atol=1e-5)


def test_resizing_layers():
    x = jnp.arange(2 * 28 * 28, dtype=jnp.float32).reshape(2, 28, 28, 1)
    padded = layers.resize(x, 32, "pad")
    np.testing.assert_array_equal(layers.resize(padded, 28, "pad"), x)
    near = layers.resize(x, 32, "nearest")
    np.testing.assert_array_equal(near[0, :, 0, 0], x[0, np.floor(np.arange(32) * 28 / 32).astype(int), 0, 0])
    kept = [i for i in range(32) if i not in (7, 15, 23, 31)]  # PyTorch's nearest 32 -> 28
    np.testing.assert_array_equal(layers.resize(near, 28, "nearest")[0, :, 0, 0], near[0, kept, 0, 0])
    np.testing.assert_array_equal(layers.depth_to_space(layers.space_to_depth(padded, 4), 4), padded)
    np.testing.assert_allclose(layers.average_pool(layers.upsample(x, 56)), x)


def test_plans_are_checked():
    with pytest.raises(ValueError, match="posterior.*guess"):
        Plan(sources=((SET, None, "guess"),))
    with pytest.raises(ValueError, match="num_decoded"):
        Plan(decode="target")
    plan = Plan(sources=((SET, None, "prior"), (SET, 2, "posterior")))
    assert (plan.source(SET, 2), plan.source(SET, 1), plan.source(IMAGE, 1)) == ("posterior", "prior", "posterior")


def test_one_program_takes_latents_from_elsewhere_row_by_row():
    """An empty context of a latent's own is its prior; `Skip` leaves it out. Other rows and latents stay."""
    model, variables, _ = family.member("scha_vae_lag")
    sets = Sets.of(family.images())

    @jax.jit
    def run(context, skip):
        chosen = sets.replace(context=sets.context | {"c1": context})
        trace = model.apply(variables, chosen, Plan(), {"c1": Skip(skip)}, rngs={"sample": jax.random.key(0)})
        return trace, objectives.latent_kl(trace["c1"])[:, 0]

    none, every = jnp.zeros(2, bool), family.mask(0, 1, 2, 3)
    plain, kl = run(every, none)
    bypassed, kl_bypassed = run(every.at[0].set(False), none)
    skipped, kl_skipped = run(every, none.at[0].set(True))
    assert (kl > 0).all() and kl_bypassed[0] == kl_skipped[0] == 0
    np.testing.assert_array_equal(skipped["c1"].value[0], 0)
    for other, other_kl in ((bypassed, kl_bypassed), (skipped, kl_skipped)):
        np.testing.assert_allclose(other_kl[1], kl[1], rtol=1e-6)
        assert np.abs(other.px.logits[0] - plain.px.logits[0]).max() > 1e-3
        np.testing.assert_allclose(other.px.logits[1], plain.px.logits[1], rtol=1e-5, atol=1e-5)
    plan = Plan(sources=((SET, 1, "skip"),))
    static = jax.jit(lambda: model.apply(variables, sets, plan, rngs={"sample": jax.random.key(0)}))()
    np.testing.assert_allclose(static.px.logits[0], skipped.px.logits[0], rtol=1e-4, atol=1e-4)
