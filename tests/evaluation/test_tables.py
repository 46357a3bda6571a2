"""Tables: the conditions that differ in columns, the same cells as text and Markdown."""

import numpy as np
import pytest
from fake_runs import likelihood

from hfsgm_jax.evaluation.records import measured
from hfsgm_jax.evaluation.tables import markdown, number, show, table, text_table


def test_only_what_varies_is_a_column():
    found = table(likelihood())
    assert found.columns == ["", "estimator", "K", "value", "log px", "kl z", "kl c"]
    assert found.numeric == [False, False, True, True, True, True, True]
    assert "set size: 5" in found.common and "unit: nats/image" in found.common
    assert "unit" in table([*likelihood(), {**likelihood()[0], "unit": "nats/set"}]).columns


def test_the_same_cells_as_text_and_markdown():
    words = text_table([*likelihood(), {"name": "figure", "pictures": ["a.png"]}]).splitlines()
    assert words[1] == "nelbo  elbo          1  81.25 ± 0.50  -50.50  27.50  3.250"
    assert "| nelbo | elbo | 1 | 81.25 ± 0.50 | -50.50 | 27.50 | 3.250 |" in markdown(table(likelihood()))
    assert text_table([{"name": "figure"}]) == ""


def test_tables_of_a_terminal_keep_to_its_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    records = [{**record, "importance_samples_z": 7} if record["name"] == "nll" else record for record in likelihood()]
    words = text_table(records)
    assert max(map(len, words.splitlines())) <= 50 and words.count("nelbo  elbo") == 2
    common = " ".join(words.split()).split("Common to all rows, where they apply: ")[1]
    assert "K over z: 7" in common


def test_runs_side_by_side_show_their_last_step():
    records = [{**record, "run": run} for run in "ab" for record in likelihood()[:1]]
    newer = {**records[0], "step": 50, "value": 80.0, "bits_per_dim": 0.25}
    assert table([newer, *records]).rows == [["nelbo", "80.00 ± 0.50 (0.2500 bits/dim)", "81.25 ± 0.50"]]
    assert table(records, across="name").columns[:2] == ["run", "nelbo"]


def test_a_second_run_has_its_paired_difference_beside_it():
    sets = [np.array([400.0, 500.0, 450.0]), np.array([390.0, 495.0, 435.0])]
    records = [{"name": "nelbo", "run": run, **measured(totals, 5.0)} for run, totals in zip("ab", sets)]
    assert table(records).columns == ["", "a", "b", "− a"]
    assert table(records).rows[0][-1].startswith("-2.000 ± 0.")


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [(106.8201, 1.2409, "106.82 ± 1.24"), (0.5, None, "0.500"), (2048, None, "2,048"), (float("nan"), None, "nan")],
)
def test_numbers(value, error, expected):
    assert number(value, error) == expected
    assert show("a" * 64) == "aaaaaaaaaaaa…" and show([1, True, None]) == "1, yes, none"
