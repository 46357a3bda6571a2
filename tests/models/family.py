"""All members of the family, tiny, and the one compiled program that their invariants share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from configs import base
from hfsgm_jax import objectives
from hfsgm_jax.models import build_model
from hfsgm_jax.trace import Plan, Sets

ROWS, SLOTS, SIZE = 2, 4, 28


def _config(name, **changes):
    config = base.get_config().model
    config.update(name=name, width=8, c_channels=3, z_channels=2, layers=2, blocks=2, heads=2)
    config.update(**changes)
    config.update(patch=4, encoder="8-1,4-1,1-1", latents="8-1,1-1", decoder="8-1")
    return config


STATISTICIANS = {
    "vae": _config("vae"),
    "bns": _config("bns"),
    "ns": _config("ns"),
    "ns_lag": _config("ns", aggregate="lag"),
    "ns_film": _config("ns", condition="film"),
    "cns": _config("cns"),
    "cns_lag": _config("cns", aggregate="lag"),
    "hfsgm": _config("hfsgm", prior_sees_images=True),
    "hfsgm_blind": _config("hfsgm"),
    "hfsgm_lag": _config("hfsgm", aggregate="lag", condition="film", prior_sees_images=True),
    "chfsgm": _config("chfsgm", prior_sees_images=True),
    "chfsgm_lag": _config("chfsgm", aggregate="lag", condition="film", prior_sees_images=True),
}
SCHA = {
    "scha_vae": _config("scha_vae"),
    "scha_vae_max": _config("scha_vae", aggregate="max"),
    "scha_vae_lag": _config("scha_vae", aggregate="lag"),
    "scha_vae_eq3": _config("scha_vae", prior_sees_images=True),
    "scha_vae_reference": _config("scha_vae", border="nearest", decoder_context="top_left"),
}
_PIXELS = dict(pixelcnn_layers=2, pixelcnn_width=4)
VHE = {
    "vhe": _config("pixelcnn_vhe", context_kernel=3, prior_width=4, **_PIXELS),
    "vhe_masked": _config("pixelcnn_vhe", prior_width=4, context_prior="masked", pixelcnn_form="masked", **_PIXELS),
    "hierarchical_vhe": _config("hierarchical_vhe", a_channels=3),
    "factorial_vhe": _config("factorial_vhe", width=16, context_prior="normal", style_channels=2),
    "bns_pixelcnn": _config("bns", **_PIXELS),
    "scha_vae_pixelcnn": _config("scha_vae", **_PIXELS),
}
FAMILY = STATISTICIANS | SCHA | VHE


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
    model = build_model(FAMILY[name], (SIZE, SIZE, 1))
    variables = random_variables(model)

    @jax.jit
    def run(params, sets, key):
        def loss(params):
            trace = model.apply({**variables, "params": params}, sets, Plan(), rngs={"sample": key})
            kls = {latent.label: objectives.latent_kl(latent) for latent in trace.latents}
            return objectives.weighted_sums(trace, sets)["loss"], (trace, kls, objectives.log_weight(trace, sets))

        (value, (trace, kls, log_weight)), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return trace, kls, log_weight, value, grads

    return model, variables, lambda sets, seed=0: run(variables["params"], sets, jax.random.key(seed))
