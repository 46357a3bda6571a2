"""From a run to the VHE paper's tables: the records of a tiny model stand beside its numbers."""

import html

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_model import random_variables, tiny_config

from hfsgm_jax import data
from hfsgm_jax.config import dump_config
from hfsgm_jax.evaluation import Evaluation
from hfsgm_jax.evaluation.likelihood import estimator_text
from hfsgm_jax.evaluation.page import paper
from hfsgm_jax.evaluation.run import evaluate
from hfsgm_jax.models import build_model

CLASSES, DRAWINGS = 20, 20


def characters(split):
    """Twenty classes of twenty drawings that say they are Omniglot's."""
    rng = np.random.default_rng(len(split))
    images = (255 * (rng.random((CLASSES * DRAWINGS, 28, 28, 1)) < 0.1)).astype(np.uint8)
    size, classes = np.full(CLASSES, DRAWINGS, np.int32), np.arange(CLASSES, dtype=np.int32)
    info = dict(source="omniglot", split=split, scheme="back_eval", resize="gmn", image_size=28, sha256=split)
    return data.Dataset(images, np.cumsum(size) - size, size, classes, classes // 5, info)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Task -> records, and the folder with its report."""
    config = tiny_config()
    config.data.update(source="omniglot", split="back_eval", resize="gmn", set_size=5)
    config.model.update(name="bns", width=8, encoder_width=2, layers=1, blocks=1, aggregate="mean")
    config.objective.name = "vhe"
    config.image_shape = (28, 28, 1)
    config.eval.update(estimator="nested", importance_samples=2, importance_samples_z=2, max_sets=3, sets_per_batch=2)
    config.eval.update(episodes=1, shots=(5,), class_samples_c=2, class_samples_z=2, transfer=(), within_alphabet=False)
    model = build_model(config.model, config.image_shape)
    variables = jax.tree.map(jnp.abs, random_variables(model, scale=0.05))  # variances among them
    folder, found = tmp_path_factory.mktemp("run"), {}
    dump_config(config, folder)
    sets = {split: characters(split) for split in ("train", "test")}
    for set_size, tasks in ((20, ["likelihood"]), (0, ["classify", "kl_layers", "report"])):
        config.eval.set_size = set_size
        evaluation = Evaluation(folder, config, model, variables, step=2)
        object.__setattr__(evaluation, "load", lambda split=None, source=None: sets[split or "test"])
        outcome = evaluate(evaluation, tasks)
        assert outcome.status == 0, outcome
        found |= outcome.results
    return found, config, folder


@pytest.mark.parametrize(
    ("task", "which", "table", "number"),
    [
        ("likelihood", dict(name="nll", importance_samples=2), "Table 3 (whole classes)", "104.67"),
        ("classify", dict(name="accuracy", method="log_mean"), "Table 1 (5-shot, 20-way)", "0.956"),
        ("kl_layers", dict(name="kl_c", split="train"), "Table 1 (training KL of c, per set)", "452.47"),
    ],
)
def test_records_stand_beside_the_papers_numbers(records, task, which, table, number):
    found, config, folder = records
    (record,) = (record for record in found[task] if which.items() <= record.items())
    beside = paper.published(task, record, config)
    assert table in beside.table and beside.text == number
    if task == "likelihood":
        assert record["set_size"] == 20 and record["importance_samples_z"] == 2
        assert "importance_samples" not in beside.remark and "K 500; here: K 2" in beside.remark and beside.comparable
    else:
        assert "1200 at random" in beside.remark and not beside.comparable  # other training classes
    page = html.unescape((folder / "report.html").read_text())
    assert number in page and table in page


def test_kl_of_c_is_of_whole_sets(records):
    kl = {record["split"]: record for record in records[0]["kl_layers"] if record["name"] == "kl_c"}
    (layer,) = (record for record in records[0]["kl_layers"] if record["name"] == "c1")
    np.testing.assert_allclose(kl["test"]["value"], layer["parts"]["per_set"], rtol=1e-4)  # q(c; D) needs no noise
    assert kl["train"]["unit"] == "nats/set" and kl["train"]["set_size"] == 5 and kl["train"]["value"] > 0


def test_pictures_and_tiles_say_both_sample_numbers():
    record = dict(estimator="nested", importance_samples=500, importance_samples_z=10)
    assert estimator_text(record) == "nested, K = 500 over c, 10 over z"
    assert estimator_text(dict(estimator="joint", importance_samples=1000)) == "joint, K = 1000"
