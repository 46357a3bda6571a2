"""The run that tests of evaluations share: programs are compiled once."""

import jax
import jax.numpy as jnp
import pytest
from tiny_model import random_variables, tiny_config

from hfsgm_jax.evaluation import Evaluation
from hfsgm_jax.trace import IMAGE, SET, Plan


@pytest.fixture(scope="session")
def tiny_run(tiny, tmp_path_factory):
    """An `Evaluation` of a model with random variables on the procedural characters."""
    config = tiny_config()
    config.eval.update(sets_per_batch=3, set_sizes=(1, 3))
    model = tiny[0]
    return Evaluation(tmp_path_factory.mktemp("runs") / "random", config, model, random_variables(model, scale=0.6), 2)


@pytest.fixture(scope="session")
def vae_run(tiny_vae, tmp_path_factory):
    """An `Evaluation` of a VAE, which has no latent that a set shares."""
    config, model = tiny_config(), tiny_vae[0]
    config.model = dict(model.made_of)
    config.eval.update(max_sets=2, importance_samples=1, set_sizes=(1, 2))
    return Evaluation(tmp_path_factory.mktemp("runs") / "vae", config, model, random_variables(model, scale=0.05), 0)


@pytest.fixture(scope="session")
def traces(tiny_run):
    """The five sets of `tiny_run` as one batch: (trace as in the NELBO, trace at temperature 0, sets)."""
    sets = jax.tree.map(jnp.asarray, tiny_run.sets)

    @jax.jit
    def run(temperature):
        factors = {SET: temperature, IMAGE: temperature}
        rngs = {"sample": jax.random.key(7)}
        return tiny_run.model.apply(tiny_run.variables, sets, Plan(), temperature=factors, rngs=rngs)

    return run(1.0), run(0.0), sets
