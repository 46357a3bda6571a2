"""All members of the family, tiny, and the one compiled program that their invariants share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from hfsgm_jax import objectives
from hfsgm_jax.models import MODELS
from hfsgm_jax.trace import Plan, Sets

ROWS, SLOTS, SIZE = 2, 4, 28
_SMALL = dict(width=8, c_channels=3, z_channels=2)
_PYRAMID = dict(patch=4, encoder="8-1,4-1,1-1", latents="8-1,1-1", decoder="8-1")
_VAE = dict(width=8, z_channels=2, layers=2, blocks=1, encoder_width=4)
_NS = dict(**_SMALL, layers=2, blocks=1, encoder_width=4)
_LAG = dict(aggregate="lag", heads=2)
_PIXELS = dict(pixelcnn_layers=2, pixelcnn_width=4)
_VHE = dict(**_SMALL, blocks=2)

STATISTICIANS = {
    "vae": ("vae", _VAE),
    "bns": ("bns", _NS | dict(layers=1)),
    "ns": ("ns", _NS),
    "ns_lag": ("ns", _NS | _LAG),
    "cns": ("cns", _NS),
    "cns_lag": ("cns", _NS | _LAG),
    "hfsgm": ("hfsgm", _NS),
    "hfsgm_lag": ("hfsgm", _NS | _LAG | dict(condition="film")),
    "chfsgm": ("chfsgm", _NS),
    "chfsgm_lag": ("chfsgm", _NS | _LAG),
}
REFERENCE = dict(border="nearest", decoder_context="top_left", std="exp")
SCHA = {
    "scha_vae": ("scha_vae", _SMALL | _PYRAMID),
    "scha_vae_max": ("scha_vae", _SMALL | _PYRAMID | dict(aggregate="max")),
    "scha_vae_lag": ("scha_vae", _SMALL | _PYRAMID | _LAG),
    "scha_vae_eq3": ("scha_vae", _SMALL | _PYRAMID | dict(prior_sees_images=True)),
    "scha_vae_reference": ("scha_vae", _SMALL | _PYRAMID | REFERENCE),
}
VHE = {
    "vhe": ("pixelcnn_vhe", _VHE | _PIXELS | dict(context_kernel=3, prior_width=4)),
    "hierarchical_vhe": ("hierarchical_vhe", _NS | dict(a_channels=3)),
    "factorial_vhe": (
        "factorial_vhe",
        _VHE | dict(width=16, context_prior="normal", style_channels=2, likelihood="bernoulli"),
    ),
    "bns_pixelcnn": ("bns", _NS | _PIXELS | dict(layers=1)),
    "scha_vae_pixelcnn": ("scha_vae", _SMALL | _PYRAMID | _PIXELS),
}
FAMILY = STATISTICIANS | SCHA | VHE


def build(name, **changes):
    """The member of the family, with some of its keywords changed."""
    constructor, keywords = FAMILY[name]
    return MODELS[constructor]((SIZE, SIZE, 1), **keywords | changes)


def images(seed=0):
    return jax.random.bernoulli(jax.random.key(seed), 0.3, (ROWS, SLOTS, SIZE, SIZE, 1)).astype(jnp.float32)


def mask(*slots):
    """[ROWS, SLOTS] bool: these slots of every row."""
    return jnp.broadcast_to(jnp.isin(jnp.arange(SLOTS), jnp.array(slots, jnp.int32)), (ROWS, SLOTS))


def random_variables(model, scale=0.3):
    """Parameters with nothing at zero, of shapes that are traced, not run; batch statistics of N(0, 1)."""
    keys = {"params": jax.random.key(0), "sample": jax.random.key(1)}
    shapes = jax.eval_shape(lambda: model.init(keys, Sets.of(images()), Plan()))
    rng = np.random.default_rng(2)

    def values(x):
        fan_in = max(1, int(np.prod(x.shape[:-1])))
        return jnp.asarray(scale * rng.normal(size=x.shape) / fan_in**0.5 * (3 if x.ndim > 1 else 1), x.dtype)

    stats = jax.tree_util.tree_map_with_path(
        lambda path, x: jnp.ones(x.shape) * (path[-1].key == "var"), dict(shapes).get("batch_stats", {})
    )
    return {"params": jax.tree.map(values, shapes["params"]), **({"batch_stats": stats} if stats else {})}


@functools.cache
def member(name):
    """``(model, variables, program)``: program(sets, key) -> (trace, KL per latent, gradients)."""
    model = build(name)
    variables = random_variables(model)

    @jax.jit
    def run(params, sets, key):
        def loss(params):
            trace = model.apply({**variables, "params": params}, sets, Plan(), rngs={"sample": key})
            kls = {latent.label: objectives.latent_kl(latent) for latent in trace.latents}
            return objectives.loss_sums(trace, sets)["loss"], (trace, kls, objectives.log_weight(trace, sets))

        (value, (trace, kls, log_weight)), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return trace, kls, log_weight, value, grads

    # As NumPy arrays: what tests do with them compiles nothing.
    def program(sets, seed=0, params=variables["params"]):
        return jax.device_get(run(params, sets, jax.random.key(seed)))

    return model, variables, program
