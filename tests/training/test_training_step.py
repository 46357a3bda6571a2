"""The compiled step: accumulation, skipping, schedules, no recompilation."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_training import TinyModel, make_setup, tiny_config, tiny_dataset

from hfsgm_jax import mesh as mesh_lib
from hfsgm_jax.config import ConfigError
from hfsgm_jax.training.optimizer import make_optimizer
from hfsgm_jax.training.state import abstract_state, init_function
from hfsgm_jax.training.step import loss_weights, summarize, to_sets, zero_metrics


@pytest.fixture(scope="module")
def mesh():
    return mesh_lib.make_mesh(1)


def run(setup, dispatches=1, state=None):
    state, metrics = setup.state if state is None else state, zero_metrics()
    for _ in range(dispatches):
        state, metrics, _ = setup.step(state, metrics, setup.table, setup.root)
    return state, metrics


def test_accumulation_equals_the_full_batch_for_ragged_sets(mesh):
    # Without noise: the parts of a batch draw noise of their own.
    results = []
    for parts in (1, 4):
        config = tiny_config(optimizer__accumulate=parts, data__set_size=(1, 4), optimizer__learning_rate=1e-3)
        results.append(run(make_setup(config, mesh, noise=0.0), 3))
    (whole, whole_metrics), (parts, parts_metrics) = results
    chex.assert_trees_all_close(whole.params, parts.params, atol=1e-6)
    chex.assert_trees_all_close(whole_metrics, parts_metrics, rtol=1e-5)


def test_noise_does_not_repeat_between_parts(mesh):
    # Two parts of one and the same row: with the same noise, their losses would be the same too.
    seen = []

    class Spy(TinyModel):
        def __call__(self, sets, plan, **_):
            trace = super().__call__(sets, plan)
            jax.debug.callback(lambda c: seen.append(np.asarray(c)), trace["c1"].value)
            return trace

    config = tiny_config(optimizer__accumulate=2, data__sets_per_batch=2)
    setup = make_setup(config, mesh)
    from hfsgm_jax.training.step import make_train_step

    same_row = to_batch(tiny_dataset())
    step = make_train_step(Spy(), setup.config, setup.optimizer, lambda table, key: same_row, mesh)
    jax.block_until_ready(step(setup.state, zero_metrics(), setup.table, setup.root))
    jax.effects_barrier()
    draws = {draw.tobytes() for draw in seen}
    assert len(draws) == 2


def to_batch(dataset, rows=2):
    from hfsgm_jax import data

    one = data.fixed_sets(dataset, 3, 1, 0)
    return jax.tree.map(lambda x: jnp.asarray(np.repeat(x, rows, 0)), one)


def test_a_dispatch_of_steps_equals_single_steps(mesh):
    single, metrics_single = run(make_setup(tiny_config(), mesh), 4)
    config = tiny_config(train__steps_per_dispatch=4, train__log_every=4, train__eval_every=4, train__save_every=4)
    several, metrics_several = run(make_setup(config, mesh), 1)
    chex.assert_trees_all_close(single, several, atol=1e-6)
    chex.assert_trees_all_close(metrics_single, metrics_several, rtol=1e-5)
    assert int(several.step) == 4


def test_non_finite_steps_change_nothing_and_freeze_at_the_limit(mesh):
    setup = make_setup(tiny_config(train__max_skipped=3, optimizer__ema=0.9), mesh, poison=True)
    before = jax.device_get(setup.state)
    state, metrics = run(setup, 5)
    for name in ("params", "ema_params", "opt_state", "model_state"):
        chex.assert_trees_all_equal(getattr(before, name), jax.device_get(getattr(state, name)))
    assert (int(state.step), int(state.skipped), int(state.skipped_in_a_row)) == (5, 5, 5)
    summary = summarize(jax.device_get(metrics))
    assert "train/loss" not in summary and float(metrics["images"]) == 5 * 8 * 3


def test_one_bad_step_is_counted_and_training_goes_on(mesh):
    setup = make_setup(tiny_config(), mesh, batch_norm=True)
    poisoned = setup.state.replace(params=jax.tree.map(lambda x: x * jnp.nan, setup.state.params))
    good = jax.tree.map(jnp.copy, setup.state)
    state, _ = run(setup, 1, poisoned)
    assert int(state.skipped_in_a_row) == 1
    chex.assert_trees_all_equal(state.model_state, good.model_state)
    state, _ = run(setup, 1, state.replace(params=good.params))
    assert (int(state.skipped), int(state.skipped_in_a_row)) == (1, 0)
    assert not np.array_equal(jax.tree.leaves(state.model_state)[0], jax.tree.leaves(good.model_state)[0])


def test_nothing_recompiles_over_steps_sizes_alpha_and_rates(mesh):
    config = tiny_config(
        data__set_size=(1, 4),
        objective__alpha=2.0,
        objective__alpha_decay=0.5,
        objective__kl_warmup=3,
        optimizer__schedule="plateau",
        optimizer__warmup=2,
        train__steps_per_epoch=2,
    )
    setup = make_setup(config, mesh)
    state, metrics = setup.state, jax.device_put(zero_metrics(), mesh_lib.replicated(mesh))
    observe = jax.jit(setup.optimizer.observe, out_shardings=mesh_lib.replicated(mesh))
    for value in range(6):
        state, metrics, _ = setup.step(state, metrics, setup.table, setup.root)
        state = state.replace(opt_state=observe(state.opt_state, float(value)))
    assert setup.step._cache_size() == 1


def test_alpha_decays_per_epoch_and_the_kl_warms_up():
    config = tiny_config(
        objective__alpha=2.0, objective__alpha_decay=0.5, objective__kl_warmup=4, train__steps_per_epoch=10
    )
    weights = [loss_weights(config, jnp.int32(step)) for step in (0, 9, 10, 25)]
    np.testing.assert_allclose([w["alpha"] for w in weights], [2, 2, 1, 0.5])
    np.testing.assert_allclose([w["kl_weight"] for w in weights], [0.25, 1, 1, 1])


def test_averaged_parameters_are_refused_with_batch_normalisation(mesh):
    config = tiny_config(optimizer__ema=0.9)
    optimizer = make_optimizer(config.optimizer, 10)
    init = init_function(TinyModel(batch_norm=True), optimizer, 0.9, to_sets(to_batch(tiny_dataset())))
    with pytest.raises(ConfigError, match="batch normalisation"):
        abstract_state(init, jax.random.key(0), mesh_lib.replicated(mesh))


def test_averaged_parameters_follow(mesh):
    setup = make_setup(tiny_config(optimizer__ema=0.5), mesh)
    before = jax.tree.map(jnp.copy, setup.state.params)
    state, _ = run(setup, 1)
    expected = jax.tree.map(lambda old, new: 0.1 * old + 0.9 * new, before, state.params)  # decay (1 + 0) / (10 + 0)
    chex.assert_trees_all_close(state.ema_params, expected, atol=1e-6)
    assert state.eval_params is state.ema_params


# Optimizers


def rates(config, steps):
    optimizer = make_optimizer(config.optimizer, 100)
    state = optimizer.init({"w": jnp.zeros(2)})
    return [float(optimizer.learning_rate(state, jnp.int32(step))) for step in steps]


def test_schedules():
    constant = tiny_config(optimizer__learning_rate=1.0, optimizer__warmup=4)
    np.testing.assert_allclose(rates(constant, [0, 1, 3, 50]), [0.25, 0.5, 1, 1])
    cosine = tiny_config(optimizer__learning_rate=1.0, optimizer__schedule="cosine", optimizer__decay_factor=0.1)
    np.testing.assert_allclose(rates(cosine, [0, 50, 100, 1000]), [1, 0.55, 0.1, 0.1], rtol=1e-5)
    steps = tiny_config(optimizer__learning_rate=1.0, optimizer__schedule="step", optimizer__decay_steps=10)
    np.testing.assert_allclose(rates(steps, [0, 9, 10, 25]), [1, 1, 0.5, 0.25])


def test_the_plateau_schedule_halves_after_its_patience():
    config = tiny_config(optimizer__learning_rate=1.0, optimizer__schedule="plateau", optimizer__patience=2)
    optimizer = make_optimizer(config.optimizer, 100)
    state, seen = optimizer.init({"w": jnp.zeros(2)}), []
    for value in (10.0, 9.0, 9.0, 9.5, 8.0, 8.0, float("nan")):
        state = optimizer.observe(state, value)
        seen.append(float(optimizer.learning_rate(state, jnp.int32(0))))
    assert seen == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]


@pytest.mark.parametrize("name", ["adam", "adamw", "adamax"])
def test_weight_decay_is_coupled_but_for_adamw(name):
    config = tiny_config(
        optimizer__name=name, optimizer__weight_decay=0.1, optimizer__clip="none", optimizer__learning_rate=0.1
    )
    optimizer = make_optimizer(config.optimizer, 100)
    params, grads = {"w": jnp.array([1.0, -2.0])}, {"w": jnp.array([0.5, 0.1])}
    new, _ = optimizer.update(grads, optimizer.init(params), params, jnp.int32(0))
    reference = {"adam": optax.adam, "adamw": lambda r: optax.adamw(r, weight_decay=0.1), "adamax": optax.adamax}[name]
    rule = reference(0.1)
    if name != "adamw":
        grads = jax.tree.map(lambda g, p: g + 0.1 * p, grads, params)
    updates, _ = rule.update(grads, rule.init(params), params)
    chex.assert_trees_all_close(new, optax.apply_updates(params, updates), atol=1e-6)


def test_clipping():
    grads = {"w": jnp.array([3.0, -4.0])}
    for clip, expected in (("norm", [0.6, -0.8]), ("value", [1.0, -1.0]), ("none", [3.0, -4.0])):
        config = tiny_config(optimizer__clip=clip, optimizer__clip_at=1.0)
        rule = make_optimizer(config.optimizer, 1).rule
        _, state = rule.update(grads, rule.init(grads), grads)
        moment = optax.tree.get(state, "mu")["w"]
        np.testing.assert_allclose(moment, 0.1 * np.array(expected), rtol=1e-5)
