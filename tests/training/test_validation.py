"""Validation: its measures, its sets, and that batches and devices change nothing."""

import functools

import jax
import numpy as np
import pytest
from tiny_training import TinyModel, setup_tiny

from hfsgm_jax import data
from hfsgm_jax.objectives import OBJECTIVES
from hfsgm_jax.trace import Plan


@pytest.fixture(scope="module")
def variables():
    return jax.device_get(setup_tiny().state.variables)


@pytest.mark.parametrize("objective", ["ns", "vhe"])
def test_neither_rows_at_once_nor_devices_change_the_noise(variables, objective):
    found = []
    for rows, devices in ((8, 1), (5, 2)):  # of 8 sets: one batch, or two of 6 rows, the second one not full
        s = setup_tiny(objective__name=objective, eval__sets_per_batch=rows, train__devices=devices)
        assert s.fixed_sets.num_rows == 8
        found.append(s.validate(variables))
    assert all(np.isfinite(value) for value in found[0].values())
    np.testing.assert_allclose(*(list(values.values()) for values in found), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "change"),
    [("vhe", {"objective__targets": 2, "data__flip": True, "data__dihedral": True}), ("rescale", {"data__copies": 20})],
)
def test_the_objective_has_its_own_sets_where_training_has(variables, monkeypatch, name, change):
    """By hand: a traversal of all drawn sets without noise, and the weights of the objective."""
    kept = {}

    @functools.wraps(data.drawn_sets)
    def keep(*args, drawn_sets=data.drawn_sets):
        kept["sets"], kept["spec"] = drawn_sets(*args), args[1]
        return kept["sets"]

    monkeypatch.setattr(data, "drawn_sets", keep)
    s = setup_tiny(model=TinyModel(noise=0.0), objective__name=name, **change)
    found, drawn = s.validate(variables), kept["sets"]
    assert not (kept["spec"].flip or kept["spec"].dihedral)  # images as they are
    if name == "vhe":
        assert drawn.images.shape[:2] == (10, 3 + 2) and (drawn.target.sum(1) == 2).all()
        assert not (drawn.context["set"] & drawn.target).any()
    assert (drawn.sizes["set"] == (6 if name == "vhe" else 6 * 20)).all()

    def by_hand(sets, name):
        apply = functools.partial(s.model.apply, rngs={"sample": jax.random.key(0)})
        sums = jax.jit(lambda sets: OBJECTIVES[name].sums(apply(variables, sets, Plan()), sets))(sets)
        return float(sums["loss"] / sums["count"])

    np.testing.assert_allclose(found["val/objective"], by_hand(drawn, name), rtol=1e-5)
    np.testing.assert_allclose(found["val/nelbo"], by_hand(s.fixed_sets, "ns"), rtol=1e-5)
    assert set(found) == {"val/nelbo", "val/log_px", "val/kl_c", "val/kl_z", "val/objective"}
    elbo = setup_tiny(model=TinyModel(noise=0.0)).validate(variables)
    assert elbo["val/objective"] == elbo["val/nelbo"]


def test_objectives_of_the_context_itself_are_of_the_fixed_sets(variables):
    found = setup_tiny(model=TinyModel(noise=0.0), objective__name="rescale").validate(variables)
    saved = found["val/kl_c"] * (1 - 3 / 6)  # KL_c is shared by the 6 images of a class instead of the 3 of a set
    np.testing.assert_allclose(found["val/objective"], found["val/nelbo"] - saved, rtol=1e-5)
