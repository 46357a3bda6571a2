"""Likelihoods of sets: bounds in the right order, whatever the batch, the chunk and the other K; options refused."""

import json

import jax
import numpy as np
import pytest
from tiny_evaluation import evaluation_of
from tiny_model import random_variables, tiny_config

from hfsgm_jax.evaluation import Evaluation, EvaluationError
from hfsgm_jax.evaluation.likelihood import check, convergence, set_likelihood
from hfsgm_jax.evaluation.run import evaluate
from hfsgm_jax.models import build_model
from hfsgm_jax.trace import Sets


@pytest.fixture(scope="module")
def sets():
    rng = np.random.default_rng(0)
    images = (rng.uniform(size=(5, 3, 28, 28, 1)) < 0.3).astype(np.float32)
    mask = np.arange(3) < np.array([3, 3, 2, 1, 3])[:, None]
    return jax.tree.map(np.asarray, Sets.of(images, mask))


@pytest.fixture(scope="module")
def run(tiny, sets, tmp_path_factory):
    def run(sets_per_batch, samples, chunk, **static):
        config = tiny_config()
        config.eval.sets_per_batch = sets_per_batch
        evaluation = Evaluation(tmp_path_factory.mktemp("run"), config, *tiny, 0)
        return evaluation.each("likelihood", set_likelihood, sets, samples=samples, chunk=chunk, **static)

    return run


@pytest.fixture(scope="module")
def results(run):
    return run(2, (1, 50), 10)


def test_batch_chunk_and_other_k_do_not_change_the_result(run, results):
    other = run(5, (50,), 7)
    np.testing.assert_allclose(other.pop("nll")[:, 0], results["nll"][:, 1], rtol=1e-5, atol=1e-4)
    for name, values in other.items():
        assert values.shape == (5,)
        np.testing.assert_allclose(values, results[name], rtol=1e-5, atol=1e-4)


def test_importance_samples_raise_the_bound(results):
    one, fifty = results["nll"].sum(0)
    assert fifty < one and fifty < results["nelbo"].sum()
    np.testing.assert_allclose(results["nelbo"], results["kl_z"] + results["kl_c"] - results["log_px"], rtol=1e-6)
    assert (results["kl_z"] > 0).all() and (results["kl_c"] > 0).all()


def test_k_of_the_convergence():
    assert convergence(1) == (1,) and convergence(10) == (1, 10) and convergence(250) == (1, 10, 100, 250)


def test_both_estimators_are_recorded_and_drawn_together(run_folder):
    settings = dict(seed=3, max_sets=3)
    results = evaluate(evaluation_of(run_folder, **settings), ["likelihood"]).results["likelihood"]
    joint = {r["importance_samples"]: r["value"] for r in results if r["name"] == "nll"}
    assert list(joint) == [1, 4]
    options = dict(estimator="nested", importance_samples=2, importance_samples_z=3)
    results = evaluate(evaluation_of(run_folder, **settings, **options), ["likelihood"]).results["likelihood"]
    nested = {r["importance_samples"]: r for r in results if r.get("importance_samples_z") == 3}
    assert list(nested) == [1, 2]
    for record in nested.values():  # the model is barely trained: all bounds are near one another
        assert abs(record["value"] - joint[4]) < 3 * record["standard_error"]
    kept = json.loads((run_folder / "eval" / "likelihood.json").read_text())
    assert {"joint", "nested"} == {r["estimator"] for r in kept if r["name"] == "nll" and r["seed"] == 3}
    (picture,) = (r["pictures"][0] for r in results if r["name"] == "convergence")
    assert (run_folder / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("name", "message"), [("vae", "'vae' has none"), ("scha_vae", "prior_sees_images")])
def test_nested_is_refused_where_it_is_no_bound(tiny_vae, name, message):
    config = tiny_config()
    config.eval.estimator = "nested"
    if name == "vae":
        config.model, model = tiny_vae[0].model, tiny_vae[1]
    else:
        config.model.prior_sees_images = True
        model = build_model(config.model, (28, 28, 1))
    evaluation = Evaluation("nowhere", config, model, None, 0)
    with pytest.raises(EvaluationError, match=f"{message}.*estimator=joint"):
        check(evaluation)


def test_a_vae_is_evaluated_image_by_image(tiny_vae, tmp_path):
    config, model, _ = tiny_vae
    config.eval.update(max_sets=2, importance_samples=1)
    evaluation = Evaluation(tmp_path, config, model, random_variables(model, scale=0.1), 0)
    records = {record["name"]: record for record in evaluate(evaluation, ["likelihood"]).results["likelihood"]}
    assert records["nelbo"]["images_one_by_one"] and records["nll"]["images_one_by_one"]
    assert "images_one_by_one" not in records["independent_pixels"]
    assert records["nelbo"]["parts"]["kl_c"] == 0 and records["nll"]["set_size"] == 3
