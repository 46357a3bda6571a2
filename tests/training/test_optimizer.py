"""Update rules, schedules, clipping."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_training import tiny_config

from hfsgm_jax.training.optimizer import Optimizer


def optimizer_of(**changes):
    config = tiny_config(**{"optimizer__learning_rate": 1.0} | {f"optimizer__{k}": v for k, v in changes.items()})
    return Optimizer(config.optimizer, 100)


@pytest.mark.parametrize(
    ("changes", "steps", "rates"),
    [
        (dict(warmup=4), [0, 1, 3, 50], [0.25, 0.5, 1, 1]),
        (dict(schedule="cosine", decay_factor=0.1), [0, 50, 100, 1000], [1, 0.55, 0.1, 0.1]),
    ],
)
def test_schedules(changes, steps, rates):
    optimizer = optimizer_of(**changes)
    state = optimizer.init(jnp.zeros(2))
    found = [float(optimizer.learning_rate(state, jnp.int32(step))) for step in steps]
    np.testing.assert_allclose(found, rates, rtol=1e-5)


@pytest.mark.parametrize(
    ("patience", "values", "rates"),
    [
        (2, (10.0, 9.0, 9.0, 9.5, 9.2, 8.0, 8.0, float("nan"), 8.1), (1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25)),
        (10, (1.0,) * 23, (1,) * 11 + (0.5,) * 11 + (0.25,)),  # the 11th without improvement, as in PyTorch
    ],
)
def test_the_plateau_schedule_halves_beyond_its_patience(patience, values, rates):
    optimizer = optimizer_of(schedule="plateau", patience=patience)
    state, seen = optimizer.init(jnp.zeros(2)), []
    for value in values:
        state = optimizer.observe(state, value)
        seen.append(float(optimizer.learning_rate(state, jnp.int32(0))))
    assert seen == list(rates)


@pytest.mark.parametrize("name", ["adam", "adamw", "adamax"])
def test_weight_decay_is_coupled_but_for_adamw(name):
    optimizer = optimizer_of(name=name, weight_decay=0.1, clip="none", learning_rate=0.1)
    params, grads = jnp.array([1.0, -2.0]), jnp.array([0.5, 0.1])
    new, _ = optimizer.update(grads, optimizer.init(params), params, jnp.int32(0))
    rule = optax.adamw(0.1, weight_decay=0.1) if name == "adamw" else getattr(optax, name)(0.1)
    if name != "adamw":
        grads = grads + 0.1 * params
    updates, _ = rule.update(grads, rule.init(params), params)
    np.testing.assert_allclose(new, optax.apply_updates(params, updates), atol=1e-6)


@pytest.mark.parametrize(("clip", "kept"), [("norm", [0.6, -0.8]), ("value", [1.0, -1.0]), ("none", [3.0, -4.0])])
def test_clipping(clip, kept):
    grads = {"w": jnp.array([3.0, -4.0])}
    rule = optimizer_of(clip=clip, clip_at=1.0).rule
    _, state = rule.update(grads, rule.init(grads), grads)
    np.testing.assert_allclose(optax.tree.get(state, "mu")["w"], 0.1 * np.array(kept), rtol=1e-5)
