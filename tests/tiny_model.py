"""The model that tests train and evaluate. (A module of its own: every folder of tests has a `conftest`.)"""

import jax
import jax.numpy as jnp
import numpy as np

import hfsgm_jax


def tiny_config():
    """A SCHA-VAE of two layers that compiles in seconds, on procedural characters."""
    config = hfsgm_jax.default_config("scha_vae")
    config.data.set_size = 3
    config.data.sets_per_batch = 4
    config.model.update(width=8, c_channels=2, z_channels=2, patch=4, encoder="8-1,1-1", aggregate="lag", heads=2)
    config.model.update(latents="8-1,1-1", decoder="8-1")
    config.train.update(steps=2, log_every=2, eval_every=2, save_every=2, sample_every=0, devices=1)
    config.eval.update(val_sets=4, max_sets=5, sets_per_batch=4, importance_samples=4)
    return config


def random_variables(model, image_shape=(28, 28, 1), scale=0.3):
    """Variables of a model with nothing at zero; shapes are traced, so that nothing is compiled."""
    from hfsgm_jax.trace import Plan, Sets

    sets = Sets.of(jnp.zeros((1, 2, *image_shape)))
    keys = {"params": jax.random.key(0), "sample": jax.random.key(1)}
    shapes = jax.eval_shape(lambda keys: model.init(keys, sets, Plan()), keys)
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda x: jnp.asarray(scale * rng.normal(size=x.shape), x.dtype), shapes)
