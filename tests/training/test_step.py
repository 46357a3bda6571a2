"""The compiled step: accumulation, skipping, averaging, no recompilation."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_model
from tiny_training import TinyModel, run, setup_tiny, tiny_config

from hfsgm_jax.errors import ConfigError
from hfsgm_jax.training import setup, step


@pytest.fixture(scope="module")
def averaging():
    """A setup that is not changed."""
    return setup_tiny(optimizer__ema=0.5)


def test_accumulation_equals_the_full_batch_for_ragged_sets():
    # Without noise: the parts of a batch draw noise of their own.
    settings = dict(data__set_size=(1, 4), optimizer__learning_rate=1e-3)
    quiet = TinyModel(noise=0.0)
    results = [run(setup_tiny(model=quiet, optimizer__accumulate=parts, **settings), 3) for parts in (1, 2)]
    (whole, whole_metrics), (parts, parts_metrics) = results
    chex.assert_trees_all_close(whole.params, parts.params, atol=1e-6)
    chex.assert_trees_all_close(whole_metrics, parts_metrics, rtol=1e-5)


def test_noise_does_not_repeat_between_parts():
    # All images are alike: only noise tells the values of c apart.
    seen = []

    class Spy(TinyModel):
        def __call__(self, sets, plan, **_):
            trace = super().__call__(sets.replace(images=jnp.ones_like(sets.images)), plan)
            jax.debug.callback(lambda c: seen.append(np.asarray(c)), trace["c1"].value)
            return trace

    s = setup_tiny(model=Spy(), optimizer__accumulate=2)
    state = jax.block_until_ready(s.state)
    jax.effects_barrier()
    seen.clear()
    jax.block_until_ready(run(s, 1, state))
    jax.effects_barrier()
    assert len({value.tobytes() for draw in seen for value in draw}) == 8  # 2 parts of 4 rows


def test_devices_do_not_matter_and_meet_once_for_all_gradients():
    def of(devices):
        config = tiny_model.tiny_config()
        config.train.devices, config.optimizer.accumulate = devices, 2
        config.model.update(patch=32, encoder="1-1", latents="1-1", decoder="1-1", aggregate="mean")
        with config.ignore_type():
            config.data.set_size = 1, 3
        return setup(config)

    one, two = of(1), of(2)
    found = run(one, 3), run(two, 3)
    chex.assert_trees_all_close(*found, rtol=1e-5, atol=1e-6)
    validated = [s.validate(state.variables) for s, (state, _) in zip((one, two), found)]
    chex.assert_trees_all_close(*validated, rtol=1e-5, atol=1e-6)
    program = two.step.lower(two.abstract_state, next(two.batches(0))).compile().as_text()
    assert len(re.findall(r" all-reduce(-start)?\(", program)) <= 2  # and that of the batch's counters


def test_a_dispatch_of_steps_equals_single_steps(averaging):
    single, metrics_single = run(averaging, 2)
    every = dict.fromkeys(("steps_per_dispatch", "log_every", "eval_every", "save_every"), 2)
    s = setup_tiny(optimizer__ema=0.5, **{f"train__{key}": value for key, value in every.items()})
    several, metrics_several = run(s)
    chex.assert_trees_all_close(single, several, atol=1e-6)
    rates = [metrics.pop("learning_rate") for metrics in (metrics_single, metrics_several)]
    chex.assert_trees_all_close(metrics_single, metrics_several, rtol=1e-5)
    assert int(several.step) == 2 and int(several.images) == 2 * 24 and rates[0] == pytest.approx(2 * rates[1])


def test_non_finite_steps_change_nothing_are_counted_and_freeze_at_the_limit(monkeypatch):
    monkeypatch.setattr(step, "MAX_SKIPPED", 3)
    s = setup_tiny(model=TinyModel(batch_norm=True))
    bad = jax.tree.map(lambda x: x * jnp.nan, s.state.params)
    state, metrics = run(s, 2, s.state.replace(params=jax.tree.map(jnp.copy, bad)))
    assert (int(state.skipped), int(state.skipped_in_a_row), int(state.images)) == (2, 2, 2 * 24)
    assert float(metrics["count"]) == float(metrics["steps"]) == 0
    chex.assert_trees_all_equal(state.params, bad)
    for name in ("opt_state", "model_state"):
        chex.assert_trees_all_equal(getattr(state, name), getattr(s.state, name))
    state, _ = run(s, 1, state.replace(params=s.state.params))  # and training goes on
    assert (int(state.skipped), int(state.skipped_in_a_row)) == (2, 0)
    assert not np.array_equal(jax.tree.leaves(state.model_state)[0], jax.tree.leaves(s.state.model_state)[0])
    state, _ = run(s, 1, s.state.replace(skipped_in_a_row=state.skipped_in_a_row + 3))
    chex.assert_trees_all_equal(state.params, s.state.params)


def test_nothing_recompiles_over_steps_sizes_alpha_and_rates():
    s = setup_tiny(
        data__set_size=(1, 4),
        objective__alpha=2.0,
        objective__alpha_decay=0.5,
        objective__kl_warmup=3,
        optimizer__schedule="plateau",
        optimizer__warmup=2,
        train__steps_per_epoch=2,
    )
    state = s.state
    for value, batch in zip(range(6), s.batches(0)):
        state, _ = s.step(state, batch)
        state = s.observe(state, float(value))
    assert s.step._cache_size() == 1


def test_alpha_decays_per_epoch_and_the_kl_warms_up():
    config = tiny_config(
        objective__alpha=2.0, objective__alpha_decay=0.5, objective__kl_warmup=4, train__steps_per_epoch=10
    )
    weights = [step.loss_weights(config, jnp.int32(number)) for number in (0, 9, 10, 25)]
    np.testing.assert_allclose([w["alpha"] for w in weights], [2, 2, 1, 0.5])
    np.testing.assert_allclose([w["kl_weight"] for w in weights], [0.25, 1, 1, 1])


def test_averaged_parameters_follow(averaging):
    state, _ = run(averaging)
    before = averaging.state.params
    expected = jax.tree.map(lambda old, new: 0.1 * old + 0.9 * new, before, state.params)  # decay (1 + 0) / (10 + 0)
    chex.assert_trees_all_close(state.ema_params, expected, atol=1e-6)
    chex.assert_trees_all_equal(state.variables["params"], state.ema_params.tree)


def test_averaged_parameters_are_refused_with_batch_normalisation():
    with pytest.raises(ConfigError, match="batch normalisation"):
        setup_tiny(model=TinyModel(batch_norm=True), optimizer__ema=0.9)


def test_parameters_of_an_objective_lie_beside_the_models():
    s = setup_tiny(objective__name="tightened")
    own = s.state.params.tree["objective"]
    state, _ = run(s, 2)
    assert not np.array_equal(state.params.tree["objective"]["embedding"], own["embedding"])
    assert np.isfinite(list(s.validate(state.variables).values())).all()
