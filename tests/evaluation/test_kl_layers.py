"""KL per layer adds up to the NELBO's, active units are counted as by hand, and a VAE has z only."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_model import random_variables, tiny_config

from hfsgm_jax import objectives
from hfsgm_jax.data import DataError
from hfsgm_jax.evaluation import Evaluation, kl_layers
from hfsgm_jax.evaluation.kl_layers import ACTIVE_KL, ACTIVE_VARIANCE
from hfsgm_jax.trace import IMAGE, SET, Plan


@pytest.fixture(scope="module")
def evaluation(tiny, tmp_path_factory):
    config, folder = tiny_config(), tmp_path_factory.mktemp("kl_layers")
    config.data.cache_dir = str(folder)
    config.eval.sets_per_batch = 3
    return Evaluation(folder / "run", config, tiny[0], random_variables(tiny[0], scale=0.6), step=2)


@pytest.fixture(scope="module")
def records(evaluation):
    kl_layers.check(evaluation)
    found = list(kl_layers.kl_layers(evaluation))
    splits = [record["split"] for name, record in found if name == "kl_c"]
    assert splits == ["test", "train"] and [name for name, _ in found][-3:] == ["kl_c", "kl_c", "figure"]
    return dict(reversed(found))  # of two of a name, the first


@pytest.fixture(scope="module")
def by_hand(evaluation):
    """The five sets as one batch: (trace as in the NELBO, trace at temperature 0, sets)."""
    sets = jax.tree.map(jnp.asarray, evaluation.sets())

    @jax.jit
    def run(temperature):
        factors = {SET: temperature, IMAGE: temperature}
        rngs = {"sample": jax.random.key(7)}
        return evaluation.model.apply(evaluation.variables, sets, Plan(), temperature=factors, rngs=rngs)

    return run(1.0), run(0.0), sets


def test_a_record_per_layer_top_first(records, evaluation):
    assert list(records)[::-1] == ["c2", "z2", "c1", "z1", "kl_c", "figure"]
    assert [records[name]["resolution"] for name in ("c2", "c1")] == [1, 8]
    for plate in "cz":
        top, low = records[f"{plate}2"], records[f"{plate}1"]
        assert top["value"] > 0 and low["value"] > 0 and top["standard_error"] > 0
        np.testing.assert_allclose(top["parts"]["share"], top["value"] / (top["value"] + low["value"]))
        assert top["parts"]["cumulative_share"] == top["parts"]["share"]
        np.testing.assert_allclose(low["parts"]["cumulative_share"], 1)
        assert (top["parts"]["units"], low["parts"]["units"]) == (2, 128)
    np.testing.assert_allclose(records["c1"]["parts"]["per_set"], 3 * records["c1"]["value"])
    assert records["kl_c"]["unit"] == "nats/set" and records["kl_c"]["set_size"] == 3
    total = records["c1"]["parts"]["per_set"] + records["c2"]["parts"]["per_set"]
    np.testing.assert_allclose(records["kl_c"]["value"], total, rtol=1e-12)
    (picture,) = records["figure"]["pictures"]
    assert (evaluation.workdir / picture).stat().st_size > 10_000


def test_the_top_layer_needs_no_noise_above_it(records, by_hand):
    """q(c_L | X) and p(c_L) depend on no sample, so its KL is the one of any traversal."""
    trace, _, sets = by_hand
    kl = objectives.latent_kl(trace["c2"])[:, 0]
    np.testing.assert_allclose(records["c2"]["parts"]["per_set"], kl.mean(), rtol=1e-4)
    sizes = sets.target.sum(1)
    np.testing.assert_allclose(records["c2"]["value"], kl.sum() / sizes.sum(), rtol=1e-4)


def test_active_units_by_hand(records, by_hand):
    trace, means, _ = by_hand
    counts = {}
    for label in ("c2", "z2", "c1", "z1"):
        mean = np.asarray(means[label].posterior.loc, np.float64)
        mean = mean.reshape(-1, *mean.shape[2:])  # sets, or images of all sets
        counts[label] = (mean.var(0) > ACTIVE_VARIANCE).sum()
    assert counts == {label: records[label]["parts"]["active_units"] for label in counts}
    assert 0 < sum(counts.values()) < sum(records[label]["parts"]["units"] for label in counts)
    unit_kl = np.asarray(objectives.unit_kl(trace["c2"])).mean((0, 1))
    assert records["c2"]["parts"]["active_units_kl"] == (unit_kl > ACTIVE_KL).sum()


def test_slices_of_sets_change_nothing_but_noise(records, evaluation, monkeypatch):
    """Means at temperature 0 know no noise: counted in overlapping slices of three sets they are the same."""
    monkeypatch.setattr(kl_layers, "SLICE", 3)
    sliced = dict(kl_layers.kl_layers(evaluation))
    for label in ("c2", "z2", "c1", "z1"):
        assert sliced[label]["parts"]["active_units"] == records[label]["parts"]["active_units"]
    np.testing.assert_allclose(sliced["c2"]["value"], records["c2"]["value"], rtol=1e-5)
    np.testing.assert_allclose(sliced["c2"]["standard_error"], records["c2"]["standard_error"], rtol=1e-5)


@pytest.mark.parametrize("there", [True, False])
def test_without_sets_of_training_classes_their_record_is_left_out(evaluation, records, monkeypatch, capsys, there):
    """The test classes are as large as the sets, those of training are not; or the training images are not there."""
    load = Evaluation.load

    def without(self, split=None, source=None):
        if split == "train" and not there:
            raise DataError("they are elsewhere")
        dataset = load(self, split, source)
        return dataclasses.replace(dataset, size=np.full_like(dataset.size, 2)) if split == "train" else dataset

    monkeypatch.setattr(Evaluation, "load", without)
    kl_layers.check(evaluation)
    found = list(kl_layers.kl_layers(evaluation))
    (kept,) = (record for name, record in found if name == "kl_c")
    assert kept == records["kl_c"] and kept["split"] == "test"
    reason = "sets of 3 images, but the largest class of strokes .train. has 2" if there else "they are elsewhere"
    assert re.search(f"no kl_c of training classes: .*{reason}", capsys.readouterr().out)


def test_a_vae_has_layers_of_z_only(tiny_vae, tmp_path):
    config, model, _ = tiny_vae
    config = config.copy_and_resolve_references()
    config.data.cache_dir = str(tmp_path)
    variables = jax.tree.map(jnp.abs, random_variables(model, scale=0.05))  # variances among them
    evaluation = Evaluation(tmp_path / "run", config, model, variables, 2)
    kl_layers.check(evaluation)
    found = dict(kl_layers.kl_layers(evaluation))
    assert list(found) == ["z1", "figure"]
    assert found["z1"]["value"] > 0 and found["z1"]["resolution"] is None
    assert found["z1"]["parts"]["cumulative_share"] == 1
    assert (tmp_path / "run" / found["figure"]["pictures"][0]).stat().st_size > 10_000
