"""Attention: what is recorded are the aggregators' weights, and who does not attend is told so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_model import tiny_config

from hfsgm_jax.evaluation import Evaluation, EvaluationError, NotApplicable, attention
from hfsgm_jax.evaluation.attention import summary
from hfsgm_jax.models import build_model
from hfsgm_jax.trace import IMAGE, SET, Plan


def make(tiny, folder):
    config = tiny_config()
    config.data.cache_dir = str(folder)
    return Evaluation(folder / "run", config, *tiny, step=2)


def test_summary_of_known_weights():
    uniform, one, half = [1 / 3] * 3, [1.0, 0, 0], [0.5, 0.5, 0]
    weights = np.array([[uniform, one], [half, half]]).transpose(0, 2, 1)  # [sets, N, heads]
    entropy, largest = summary(weights, np.array([3, 2]))
    np.testing.assert_allclose(entropy, [[1, 0], [1, 1]], atol=1e-12)
    np.testing.assert_allclose(largest, [[1 / 3, 1], [0.5, 0.5]])


def test_weights_of_every_layer_and_head(tiny, tmp_path):
    evaluation = make(tiny, tmp_path)
    attention.check(evaluation)
    found = list(attention.attention(evaluation))
    assert [name for name, _ in found] == ["c2", "c1", "figure"]
    records, model, variables = dict(found), *tiny
    sets = jax.tree.map(jnp.asarray, evaluation.sets())

    @jax.jit
    def run(key):
        return model.apply(variables, sets, Plan(), temperature={SET: 0.0, IMAGE: 0.0}, rngs={"sample": key})

    trace = run(jax.random.key(9))  # no noise at temperature 0: any key
    for label in ("c2", "c1"):
        entropy, largest = summary(np.asarray(trace[label].weights), np.asarray(sets.observed.sum(1)))
        record = records[label]
        np.testing.assert_allclose(record["value"], entropy.mean(), rtol=1e-4)
        np.testing.assert_allclose(record["parts"]["largest_weight"], largest.mean(), rtol=1e-4)
        np.testing.assert_allclose(record["parts"]["entropy_head2"], entropy[:, 1].mean(), rtol=1e-4)
        np.testing.assert_allclose(record["parts"]["uniform"], 1 / 3)
        assert record["heads"] == 2 and 0 < record["value"] < 1
    pictures = records["figure"]["pictures"]
    assert len(pictures) == 2
    assert all((tmp_path / "run" / picture).stat().st_size > 10_000 for picture in pictures)


def test_who_does_not_attend_is_told_so(tiny, tiny_vae, tmp_path):
    config = tiny_config()
    config.model.aggregate = "mean"
    with pytest.raises(NotApplicable, match="which no layer of this model has .*model.aggregate='mean'"):
        attention.check(Evaluation(tmp_path, config, build_model(config.model, (28, 28, 1)), {}, 2))
    config, model, variables = tiny_vae
    with pytest.raises(NotApplicable, match="model.name='vae' has none"):
        attention.check(Evaluation(tmp_path, config, model, variables, 2))
    evaluation = make(tiny, tmp_path)
    evaluation.config.eval.set_size = 1
    with pytest.raises(EvaluationError, match="eval.set_size=1"):
        attention.check(evaluation)
