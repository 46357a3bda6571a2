"""Validation: what it measures, on which sets, and that batches and devices change nothing."""

import jax
import numpy as np
import pytest
import tiny_training
from tiny_training import TinyModel, tiny_config

from hfsgm_jax import data, objectives
from hfsgm_jax import mesh as mesh_lib
from hfsgm_jax.trace import Plan
from hfsgm_jax.training.prepare import load_data
from hfsgm_jax.training.step import to_sets
from hfsgm_jax.training.validation import make_validation


@pytest.fixture(autouse=True)
def tiny_data(monkeypatch):
    monkeypatch.setattr(data, "load_dataset", lambda config, split: tiny_training.tiny_dataset(seed=split == "val"))


@pytest.fixture(scope="module")
def variables():
    setup = tiny_training.make_setup(tiny_config(), mesh_lib.make_mesh(1))
    return jax.device_get(setup.state.eval_variables)


@pytest.mark.parametrize("objective", ["ns", "vhe"])
def test_neither_rows_at_once_nor_devices_change_the_noise(variables, objective):
    config = tiny_config(objective__name=objective)
    _, batch, drawn = load_data(config)
    found = []
    for rows, devices in ((10, 1), (4, 1), (3, 1), (4, 2)):
        config.eval.sets_per_batch = rows
        found.append(make_validation(TinyModel(), config, batch, mesh_lib.make_mesh(devices), drawn)(variables))
    assert all(np.isfinite(value) for value in found[0].values())
    for other in found[1:]:
        np.testing.assert_allclose(list(other.values()), list(found[0].values()), rtol=1e-5)


def test_the_objective_has_its_own_contexts_and_targets(variables):
    """By hand: a traversal of all drawn sets without noise, and the weights of `vhe`."""
    config = tiny_config(objective__name="vhe", objective__targets=2)
    _, batch, drawn = load_data(config)
    assert drawn.images.shape[:2] == (10, 3 + 2) and (drawn.target.sum(1) == 2).all()
    assert (drawn.context["set"] & drawn.target).sum() == 0 and batch.context is None
    model, mesh = TinyModel(noise=0.0), mesh_lib.make_mesh(1)
    found = make_validation(model, config, batch, mesh, drawn)(variables)

    def by_hand(batch, name):
        sets = to_sets(batch)
        trace = model.apply(variables, sets, Plan(), rngs={"sample": jax.random.key(0)})
        sums = objectives.weighted_sums(trace, sets, objective=name)
        return float(sums["loss"] / sums["count"])

    np.testing.assert_allclose(found["val/objective"], by_hand(drawn, "vhe"), rtol=1e-5)
    np.testing.assert_allclose(found["val/nelbo"], by_hand(batch, "ns"), rtol=1e-5)
    assert set(found) == {"val/nelbo", "val/log_px", "val/kl_c", "val/kl_z", "val/objective"}


def test_objectives_of_the_context_itself_are_of_the_fixed_sets(variables):
    config = tiny_config(objective__name="rescale")
    _, batch, drawn = load_data(config)
    assert drawn is None
    found = make_validation(TinyModel(noise=0.0), config, batch, mesh_lib.make_mesh(1))(variables)
    saved = found["val/kl_c"] * (1 - 3 / 6)  # KL_c is shared by the 6 images of a class instead of the 3 of a set
    np.testing.assert_allclose(found["val/objective"], found["val/nelbo"] - saved, rtol=1e-5)
