"""From a run to the VHE paper's tables: the records of a tiny model stand beside its numbers."""

import html

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_evaluation import changed, results_of
from tiny_model import random_variables

import hfsgm_jax
from hfsgm_jax.config import dump_config
from hfsgm_jax.data import Dataset
from hfsgm_jax.evaluation import TASKS, Evaluation
from hfsgm_jax.evaluation.page import paper

CLASSES, DRAWINGS = 20, 20


def characters(split):
    """Twenty classes of twenty drawings that say they are Omniglot's."""
    rng = np.random.default_rng(len(split))
    images = rng.random((CLASSES * DRAWINGS, 28, 28, 1)) < 0.1
    labels = np.repeat(np.arange(CLASSES), DRAWINGS)
    info = dict(source="omniglot", split=split, scheme="back_eval", resize="gmn", image_size=28, sha256=split)
    return Dataset.from_arrays(images, labels, labels // 5, info=info)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = hfsgm_jax.default_config("bns")
    config.data.update(source="omniglot", split="back_eval", resize="gmn", set_size=5)
    config.model.update(width=8, encoder_width=2, c_channels=2, z_channels=2, blocks=1)
    config.objective.name = "vhe"
    config.eval.update(estimator="nested", importance_samples=2, importance_samples_z=2, max_sets=3, sets_per_batch=2)
    config.eval.update(episodes=1, shots=(5,), class_samples_c=1, class_samples_z=1, transfer=())
    config.image_shape = (28, 28, 1)
    model = hfsgm_jax.build_model(config.model, config.image_shape)
    variables = jax.tree.map(jnp.abs, random_variables(model, scale=0.05))  # variances among them
    folder = tmp_path_factory.mktemp("run")
    dump_config(config, folder)
    return Evaluation(folder, config, model, variables, step=2)


@pytest.fixture(scope="module")
def results(run):
    """Task -> results; the report is made of them."""
    sets, found = {split: characters(split) for split in ("train", "test")}, {}
    calls = [("likelihood", 20, "test"), ("classify", 5, "test"), ("kl_layers", 5, "train")]
    for task, set_size, split in [*calls, ("report", 5, "test")]:
        own = changed(run, set_size=set_size)
        object.__setattr__(own, "load", lambda split=split, source=None: sets[split])
        found.setdefault(task, []).extend(results_of(own, TASKS[task]))
    return found


@pytest.mark.parametrize(
    ("task", "which", "table", "number"),
    [
        ("likelihood", dict(name="nll", importance_samples=2), "Table 3 (whole classes)", "104.67"),
        ("classify", dict(name="accuracy", method="log_mean"), "Table 1 (5-shot, 20-way)", "0.956"),
        ("kl_layers", dict(name="kl_c", split="train"), "Table 1 (training KL of c, per set)", "452.47"),
    ],
)
def test_records_stand_beside_the_papers_numbers(run, results, task, which, table, number):
    (record,) = (record for record in results[task] if which.items() <= record.items())
    beside = paper.published(task, record, run.config)
    assert table in beside.table and beside.text == number
    if task == "likelihood":
        assert record["set_size"] == 20 and record["importance_samples_z"] == 2
        assert "K 500 → 2, test sets all → 3 of 20" in beside.remark and beside.comparable
    else:
        assert "vhe_1200" in beside.remark and not beside.comparable  # other training classes
    page = html.unescape((run.workdir / "report.html").read_text())
    assert number in page and table in page


def test_kl_of_c_is_of_whole_sets(results):
    kl, layer = (next(r for r in results["kl_layers"] if r["name"] == name) for name in ("kl_c", "c1"))
    np.testing.assert_allclose(kl["value"], layer["parts"]["per_set"], rtol=1e-4)  # q(c; D) needs no noise
    assert (kl["unit"], kl["split"], kl["set_size"]) == ("nats/set", "train", 5) and kl["value"] > 0
