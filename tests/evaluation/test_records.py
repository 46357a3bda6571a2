"""Results: their key, their files, their errors."""

import json

import numpy as np
import pytest

from hfsgm_jax.errors import ConfigError
from hfsgm_jax.evaluation.records import bootstrap_error, measured, read_results, write_results


def test_a_rerun_replaces_its_own_result(tmp_path):
    path = tmp_path / "eval" / "likelihood.json"
    result = {"name": "nll", "value": 80.0, "standard_error": 0.1, "importance_samples": 10, "step": 5}
    write_results(path, [result, {**result, "importance_samples": 100, "value": 79.0}])
    write_results(path, [{**result, "value": 81.0, "seconds": 3.0}])
    assert [(r["importance_samples"], r["value"]) for r in read_results(path)] == [(10, 81.0), (100, 79.0)]
    assert json.loads(path.read_text()) == read_results(path)
    assert [file.name for file in path.parent.iterdir()] == ["likelihood.json"]


@pytest.mark.parametrize("text", ["rubbish", "{}", "[1]", "\udcff"])
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
