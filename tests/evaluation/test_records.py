"""Results: their key, their files, their errors."""

import json

import numpy as np

from hfsgm_jax.evaluation.records import bits_per_dim, bootstrap_error, read_records, table, write_records


def test_a_rerun_replaces_its_own_record(tmp_path):
    path = tmp_path / "eval" / "likelihood.json"
    record = {"name": "nll", "value": 80.0, "standard_error": 0.1, "importance_samples": 10, "step": 5}
    write_records(path, [record, {**record, "importance_samples": 100, "value": 79.0}])
    write_records(path, [{**record, "value": 81.0, "seconds": 3.0}])
    assert [(r["importance_samples"], r["value"]) for r in read_records(path)] == [(10, 81.0), (100, 79.0)]
    assert json.loads(path.read_text()) == read_records(path)
    assert [file.name for file in path.parent.iterdir()] == ["likelihood.json"]


def test_bootstrap_error_is_that_of_the_mean():
    totals = np.random.default_rng(0).normal(400, 10, 2000)
    error = bootstrap_error(totals, np.full(2000, 5))
    assert abs(error - 2 / np.sqrt(2000)) < 0.005
    assert bootstrap_error(totals[:1], np.ones(1)) is None


def test_bits_per_dim():
    assert abs(bits_per_dim(8 * np.log(2) * 12, (2, 2, 3)) - 8) < 1e-12


def test_table_lines_up():
    lines = table(
        [
            {"name": "nelbo", "value": 101.234, "standard_error": 0.5, "unit": "nats/image", "set_size": 5},
            {"name": "all", "pictures": ["eval/sample.png"]},
        ]
    ).splitlines()
    assert len(lines) == 2
    assert "101.23" in lines[1] and "nats/image" in lines[1] and "K" not in lines[0]
