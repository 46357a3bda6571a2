"""Rows spread over eight devices give what one device gives, for one member of each kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from family import SIZE, build, random_variables

from hfsgm_jax import objectives
from hfsgm_jax.devices import by_rows, make_mesh, replicated
from hfsgm_jax.trace import Plan, Sets

DEVICES = 8


@pytest.mark.parametrize("name", ["cns_lag", "scha_vae_lag"])
def test_one_device_equals_eight(name):
    """In training mode: batch statistics too are those of the whole batch."""
    model = build(name)
    variables = random_variables(model)
    images = jax.random.bernoulli(jax.random.key(3), 0.3, (DEVICES, 2, SIZE, SIZE, 1)).astype(jnp.float32)

    def sums(params, sets):
        def loss(params):
            trace, _ = model.apply(
                {**variables, "params": params},
                sets,
                Plan(train=True),
                rngs={"sample": jax.random.key(0)},
                mutable=["batch_stats"],
            )
            return objectives.loss_sums(trace, sets)["loss"]

        return jax.value_and_grad(loss)(params)

    results = []
    for count in (1, DEVICES):
        mesh = make_mesh(count)
        sets = jax.device_put(Sets.of(images), by_rows(mesh))
        results.append(jax.device_get(jax.jit(sums)(jax.device_put(variables["params"], replicated(mesh)), sets)))
    (loss, grads), (other_loss, other_grads) = results
    # Sums over rows are taken in another order; batch statistics carry that through every layer.
    np.testing.assert_allclose(other_loss, loss, rtol=1e-4)
    flat, other = (np.concatenate([g.ravel() for g in jax.tree.leaves(tree)]) for tree in (grads, other_grads))
    assert np.linalg.norm(flat - other) < 1e-2 * np.linalg.norm(flat)
