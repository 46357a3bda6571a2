"""Likelihoods of sets: bounds in the right order, whatever the batch and the chunk."""

import numpy as np
import pytest

from hfsgm_jax.evaluation.likelihood import evaluate_sets, set_likelihoods
from hfsgm_jax.trace import Sets


@pytest.fixture(scope="module")
def sets():
    rng = np.random.default_rng(0)
    images = (rng.uniform(size=(5, 3, 28, 28, 1)) < 0.3).astype(np.float32)
    mask = np.arange(3) < np.array([3, 3, 2, 1, 3])[:, None]
    return Sets.of(images, mask)


def run(tiny, sets, num_samples, chunk, sets_per_batch):
    settings = dict(seed=0, num_samples=num_samples, chunk=chunk, sets_per_batch=sets_per_batch)
    return evaluate_sets(*tiny, sets, **settings)


@pytest.fixture(scope="module")
def results(tiny, sets):
    return run(tiny, sets, num_samples=50, chunk=10, sets_per_batch=2)


def test_one_program_for_all_batches(tiny, sets, results):
    before = set_likelihoods._cache_size()
    again = run(tiny, sets, num_samples=50, chunk=10, sets_per_batch=2)
    assert set_likelihoods._cache_size() == before
    np.testing.assert_array_equal(again["nll"], results["nll"])


def test_batch_and_chunk_do_not_change_the_result(tiny, sets, results):
    other = run(tiny, sets, num_samples=50, chunk=7, sets_per_batch=5)
    for name, values in results.items():
        assert values.shape == (5,)
        np.testing.assert_allclose(other[name], values, rtol=1e-5, atol=1e-4)


def test_importance_samples_raise_the_bound(results):
    assert results["nll"].sum() < results["nelbo"].sum()
    np.testing.assert_allclose(results["nelbo"], results["kl_z"] + results["kl_c"] - results["log_px"], rtol=1e-6)
    assert (results["kl_z"] > 0).all() and (results["kl_c"] > 0).all()
