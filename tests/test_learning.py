"""A model learns: 50 steps lower the NELBO of classes held out by 5 standard errors."""

import jax
import numpy as np
import optax

from hfsgm_jax import data, default_config, models, objectives
from hfsgm_jax.trace import Plan


def test_fifty_steps_lower_the_heldout_nelbo():
    config = default_config("scha_vae")
    train, heldout = data.load_dataset(config.data, "train"), data.load_dataset(config.data, "val")
    batch = data.fixed_sets(heldout, 3, 24, seed=0)
    levels = dict(patch=4, encoder="8-1", latents="8-1", decoder="8-1")
    model = models.scha_vae(width=16, c_channels=8, z_channels=8, aggregate="lag", **levels)
    key = jax.random.key(0)
    config.data.update(set_size=3, sets_per_batch=8)
    spec = data.SetSpec.from_config(config.data)
    table, optimizer = train.table(), optax.adam(3e-3)

    def sets_at(step):
        return data.sample_sets(table, jax.random.fold_in(key, step), spec)

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
            return -objectives.elbo(trace, sets_at(step)), updated

        grads, updated = jax.grad(loss, has_aux=True)(variables["params"])
        updates, state = optimizer.update(grads, state)
        return {**updated, "params": optax.apply_updates(variables["params"], updates)}, state

    @jax.jit
    def nelbo(variables):
        return -objectives.log_weight(model.apply(variables, batch, Plan(), rngs={"sample": key}), batch)

    variables, state = start()
    before = nelbo(variables)
    for step in range(50):
        variables, state = train_step(variables, state, step)
    gain = np.asarray(before - nelbo(variables))
    assert gain.mean() > 5 * gain.std(ddof=1) / np.sqrt(len(gain))
