"""Likelihoods of sets: bounds in the right order, whatever the batch and the other K; options refused."""

import dataclasses

import numpy as np
import pytest
from tiny_evaluation import changed, is_picture, results_of

from hfsgm_jax.errors import ConfigError
from hfsgm_jax.evaluation.likelihood import convergence, likelihood, set_likelihood
from hfsgm_jax.trace import SET

SAMPLES = (1, 10, 50)


@pytest.fixture(scope="module")
def sets(tiny_run):
    """Some of one and two images."""
    mask = np.arange(3) < np.array([3, 3, 2, 1, 3])[:, None]
    return tiny_run.sets.replace(present=mask, observed=mask, context={SET: mask}, target=mask)


@pytest.fixture(scope="module")
def bounds(tiny_run, sets):
    return tiny_run.each("likelihood", set_likelihood, sets, samples=SAMPLES, samples_z=0)


def test_batch_and_other_k_do_not_change_the_result(tiny_run, sets, bounds):
    other = changed(tiny_run, sets_per_batch=5).each("likelihood", set_likelihood, sets, samples=(50,))
    np.testing.assert_allclose(other.pop("nll")[:, 0], bounds["nll"][:, 2], rtol=1e-5, atol=1e-4)
    for name, values in other.items():
        assert values.shape == (5,)
        np.testing.assert_allclose(values, bounds[name], rtol=1e-5, atol=1e-4)


def test_importance_samples_raise_the_bound(bounds):
    one, _, fifty = bounds["nll"].sum(0)
    assert fifty < one and fifty < bounds["nelbo"].sum()
    np.testing.assert_allclose(bounds["nelbo"], bounds["kl_z"] + bounds["kl_c"] - bounds["log_px"], rtol=1e-6)
    assert (bounds["kl_z"] > 0).all() and (bounds["kl_c"] > 0).all()


def test_k_of_the_convergence():
    assert convergence(1) == (1,) and convergence(10) == (1, 10) and convergence(250) == (1, 10, 100, 250)


def test_both_estimators_are_recorded_and_drawn_together(tiny_run):
    results = results_of(changed(tiny_run, max_sets=3, importance_samples=50), likelihood)
    joint = {r["importance_samples"]: r["value"] for r in results if r["name"] == "nll"}
    assert tuple(joint) == SAMPLES and results[0]["value"] > joint[50]
    options = dict(max_sets=3, estimator="nested", importance_samples=2, importance_samples_z=3)
    nested = [r for r in results_of(changed(tiny_run, **options), likelihood) if r["name"] == "nll"]
    assert [(r["importance_samples"], r["importance_samples_z"]) for r in nested] == [(1, 3), (2, 3)]
    assert nested[1]["value"] < joint[1]
    (figure,) = (r for r in results if r["name"] == "convergence")
    assert is_picture(tiny_run, figure) and figure["num_sets"] == 3


def test_nested_is_refused_where_it_is_no_bound(tiny_run, vae_run):
    sees = dataclasses.replace(tiny_run, model=tiny_run.model.clone(prior_sees_images=True))
    for run in (vae_run, sees):
        with pytest.raises(ConfigError, match="latents that a set shares.*prior_sees_images.*estimator=joint"):
            next(likelihood(changed(run, estimator="nested")))


def test_a_vae_is_evaluated_image_by_image(vae_run):
    records = {record["name"]: record for record in results_of(vae_run, likelihood)}
    assert records["nelbo"]["images_one_by_one"] and records["nll"]["images_one_by_one"]
    assert "images_one_by_one" not in records["independent_pixels"]
    assert records["nelbo"]["parts"]["kl_c"] == 0 and records["nll"]["set_size"] == 3
