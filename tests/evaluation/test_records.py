"""Results: their key, their files, their errors."""

import json

import numpy as np
import pytest

from hfsgm_jax.errors import ConfigError
from hfsgm_jax.evaluation.records import bootstrap_error, increase, measured, read_results, write_results


def test_a_rerun_replaces_its_own_result(tmp_path):
    path = tmp_path / "eval" / "likelihood.json"
    result = {"name": "nll", "value": 80.0, "standard_error": 0.1, "importance_samples": 10, "step": 5}
    write_results(path, [result, {**result, "importance_samples": 100, "value": 79.0}])
    write_results(path, [{**result, "value": 81.0, "seconds": 3.0}])
    assert [(r["importance_samples"], r["value"]) for r in read_results(path)] == [(10, 81.0), (100, 79.0)]
    assert json.loads(path.read_text()) == read_results(path)
    assert [file.name for file in path.parent.iterdir()] == ["likelihood.json"]


@pytest.mark.parametrize("text", ["rubbish", '{"a": 1}', "[1]", "\udcff"])
def test_rubbish_is_named(tmp_path, text):
    path = tmp_path / "likelihood.json"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(ConfigError, match="likelihood.json is no .*remove it"):
        read_results(path)


def test_bootstrap_error_is_that_of_the_mean():
    totals = np.random.default_rng(0).normal(400, 10, 2000)
    found = measured(totals, np.full(2000, 5))
    assert abs(found["standard_error"] - 2 / np.sqrt(2000)) < 0.005 and abs(found["value"] - 80) < 0.2
    assert bootstrap_error(totals[:1], np.ones(1)) is None
    one_each = measured(totals, np.full(2000, 5), np.arange(2000)[::-1])
    assert one_each == found  # a set per class: nothing changes
    assert measured(totals, 5.0, np.zeros(2000))["standard_error"] is None


def simulated(rng, classes=60, sets=5):
    """Nats of sets whose classes differ (deviation 10) more than the sets of a class (5): ``(totals, classes)``."""
    effect = rng.normal(0, 10, classes)[:, None]
    return (400 + effect + rng.normal(0, 5, (classes, sets))).ravel(), np.repeat(np.arange(classes), sets)


def test_the_error_covers_sets_that_resemble_each_other():
    rng = np.random.default_rng(0)
    runs = [simulated(rng) for _ in range(400)]
    values = np.array([measured(totals, 5.0, classes)["value"] for totals, classes in runs])
    by_class = np.mean([measured(totals, 5.0, classes)["standard_error"] for totals, classes in runs])
    by_set = np.mean([measured(totals, 5.0)["standard_error"] for totals, _ in runs])
    assert abs(by_class / values.std() - 1) < 0.15
    assert by_set < 0.6 * values.std()  # as if sets were independent: far too small


def test_a_difference_of_the_same_images_has_its_own_error():
    totals, classes = simulated(np.random.default_rng(1))
    other = totals + 2 + np.random.default_rng(2).normal(0, 0.5, len(totals))
    own, first = measured(other, 5.0, classes), measured(totals, 5.0, classes)
    found = increase(own, first)
    assert abs(found["increase"] - 0.4) < 0.02 and found["increase_error"] < 0.05 * own["standard_error"]
    assert not increase(own, {"value": 1.0}) and not increase(own, measured(totals[:5]))
