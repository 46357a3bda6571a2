"""Attention: what is recorded are the aggregators' weights, and who does not attend is told so."""

import dataclasses

import numpy as np
import pytest
from tiny_evaluation import changed, is_picture, results_of

from hfsgm_jax.errors import NotApplicable
from hfsgm_jax.evaluation.attention import attention, entropy
from hfsgm_jax.models import build_model


def test_entropy_of_known_weights():
    uniform, one, half = [1 / 3] * 3, [1.0, 0, 0], [0.5, 0.5, 0]
    weights = np.array([[uniform, one], [half, half]]).transpose(0, 2, 1)  # [sets, N, heads]
    np.testing.assert_allclose(entropy(weights, np.array([3, 2])), [[1, 0], [1, 1]], atol=1e-12)


def test_weights_of_every_layer_and_head(tiny_run, traces):
    *found, figure = results_of(tiny_run, attention)
    assert is_picture(tiny_run, figure)
    assert [record["name"] for record in found] == ["c2", "c1"]
    _, trace, sets = traces  # no noise at temperature 0: any key
    for record in found:
        found = entropy(np.asarray(trace[record["name"]].weights), np.asarray(sets.observed.sum(1)))
        np.testing.assert_allclose(record["value"], found.mean(), rtol=1e-4)
        np.testing.assert_allclose(record["parts"]["entropy_head2"], found[:, 1].mean(), rtol=1e-4)
        assert record["heads"] == 2 and 0 < record["value"] < 1


def test_who_does_not_attend_is_told_so(tiny_run, vae_run):
    run = changed(tiny_run, {"model.aggregate": "mean"})
    run = dataclasses.replace(run, model=build_model(run.config.model, (28, 28, 1)))
    with pytest.raises(NotApplicable, match="'lag' gives the images of a set, and here is model.aggregate='mean'"):
        next(attention(run))
    with pytest.raises(NotApplicable, match="model.name='vae' has none"):
        next(attention(vae_run))
    with pytest.raises(NotApplicable, match="eval.set_size=1"):
        next(attention(changed(tiny_run, set_size=1)))
