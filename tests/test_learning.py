"""A model learns: 50 steps lower the NELBO of classes held out by 5 standard errors."""

import jax
import numpy as np
import optax
import pytest

from configs import base
from hfsgm_jax import data, objectives
from hfsgm_jax.models import build_model
from hfsgm_jax.trace import Plan, Sets


@pytest.mark.parametrize("name", ["ns", "scha_vae"])
def test_fifty_steps_lower_the_heldout_nelbo(name, tmp_path):
    config = base.get_config()
    config.data.cache_dir = str(tmp_path)
    config.model.update(name=name, width=32, c_channels=8, z_channels=8, layers=1, blocks=1, aggregate="lag", patch=4)
    config.model.update(encoder="8-1,1-1", latents="8-1,1-1", decoder="8-1")
    train, heldout = data.load_dataset(config.data, "train"), data.load_dataset(config.data, "val")
    batch = data.fixed_sets(heldout, 3, 24, seed=0)
    model, key = build_model(config.model, (28, 28, 1)), jax.random.key(0)
    config.data.update(set_size=3, sets_per_batch=8)
    spec = data.SetSpec.from_config(config.data)
    table, optimizer = train.on_device(), optax.adam(3e-3)

    def sets_at(step):
        drawn = data.sample_sets(table, jax.random.fold_in(key, step), spec)
        return Sets.of(drawn.images, drawn.mask)

    @jax.jit
    def start():
        variables = model.init({"params": key, "sample": key}, sets_at(0), Plan())
        return variables, optimizer.init(variables["params"])

    @jax.jit
    def train_step(variables, state, step):
        def loss(params):
            trace, updated = model.apply(
                {**variables, "params": params},
                sets_at(step),
                Plan(train=True),
                rngs={"sample": jax.random.fold_in(key, step)},
                mutable=["batch_stats"],
            )
            return objectives.weighted_sums(trace, sets_at(step))["loss"] / 24, updated

        grads, updated = jax.grad(loss, has_aux=True)(variables["params"])
        updates, state = optimizer.update(grads, state)
        return {**updated, "params": optax.apply_updates(variables["params"], updates)}, state

    @jax.jit
    def nelbo(variables):
        sets = Sets.of(batch.images, batch.mask)
        return -objectives.log_weight(model.apply(variables, sets, Plan(), rngs={"sample": key}), sets)

    variables, state = start()
    before = nelbo(variables)
    for step in range(50):
        variables, state = train_step(variables, state, step)
    gain = np.asarray(before - nelbo(variables))
    assert gain.mean() > 5 * gain.std(ddof=1) / np.sqrt(len(gain))
