"""KL per layer adds up to the NELBO's, active units are counted as by hand, and a VAE has z only."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_evaluation import is_picture, results_of

from hfsgm_jax import objectives
from hfsgm_jax.evaluation.kl_layers import ACTIVE_VARIANCE, kl_layers

LAYERS = ("c2", "z2", "c1", "z1")


@pytest.fixture(scope="module")
def records(tiny_run):
    found = results_of(tiny_run, kl_layers)
    assert [record["name"] for record in found] == [*LAYERS, "kl_c", "figure"]
    return {record["name"]: record for record in found}


def test_a_record_per_layer_top_first(records, tiny_run):
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
    assert is_picture(tiny_run, records["figure"])


def test_the_top_layer_needs_no_noise_above_it(records, traces):
    """q(c_L | X) and p(c_L) depend on no sample, so its KL is the one of any traversal."""
    trace, _, sets = traces
    kl = objectives.latent_kl(trace["c2"])[:, 0]
    np.testing.assert_allclose(records["c2"]["parts"]["per_set"], kl.mean(), rtol=1e-4)
    np.testing.assert_allclose(records["c2"]["value"], kl.sum() / sets.target.sum(), rtol=1e-4)


def test_active_units_by_hand(records, traces):
    _, means, _ = traces
    counts = {}
    for label in LAYERS:
        mean = np.asarray(means[label].posterior.loc, np.float64)
        mean = mean.reshape(-1, *mean.shape[2:])  # sets, or images of all sets
        counts[label] = (mean.var(0) > ACTIVE_VARIANCE).sum()
    assert counts == {label: records[label]["parts"]["active_units"] for label in counts}
    assert 0 < sum(counts.values()) < sum(records[label]["parts"]["units"] for label in counts)


def test_a_vae_has_layers_of_z_only(vae_run):
    variables = jax.tree.map(jnp.abs, vae_run.variables)  # variances among them
    layer, figure = results_of(dataclasses.replace(vae_run, variables=variables), kl_layers)
    assert layer["name"] == "z1" and layer["value"] > 0 and layer["resolution"] is None
    assert layer["parts"]["cumulative_share"] == 1
    assert is_picture(vae_run, figure)
