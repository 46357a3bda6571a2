"""The studies of many runs: what is kept, what is done again, what is drawn."""

import json
import subprocess

import numpy as np
import pytest

from hfsgm_jax.evaluation.records import measured
from scripts import readme, recipes, study, vhe_effect

METRICS = [
    {"step": step, "images": 10 * step, "seconds": 1.5 * step, "train/nelbo": 200 / step, "train/kl_c": 1 / step}
    for step in (1, 2, 4)
]
RECORDS = [{"name": "nelbo", "value": 99.0, "step": 2}, {"name": "nelbo", "value": 88.0, "step": 4}]
STUDY = vhe_effect.STUDY._replace(
    variants={"a": ["--config=configs/quickstart.py"]},
    evaluations=[["--tasks=likelihood"]],
    numbers=lambda folder: {"nelbo": study.records(folder, "likelihood")[-1]["value"]},
)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The folder of a run of 4 steps, evaluated at 2 and at 4; ``commands`` are those that the study starts."""
    folder = tmp_path / "runs" / "a"
    (folder / "eval").mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in METRICS))
    (folder / "eval" / "likelihood.json").write_text(json.dumps(RECORDS))
    return folder


def test_a_finished_variant_is_done_again_only_if_it_changed(run, monkeypatch):
    commands = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: commands.append(command[1:]))
    monkeypatch.setattr(study, "commit", lambda: "abc")
    for _ in range(2):
        found = study.measure(STUDY, run, STUDY.variants["a"], cores=1)
        assert found == {"nelbo": 88.0, "images": 40, "step": 4, "commit": "abc"}
    workdir = f"--workdir={run}"
    evaluation = ["evaluate.py", workdir, "--eval.step=last", "--tasks=likelihood"]
    assert commands == [["train.py", workdir, "--config=configs/quickstart.py"], evaluation]
    monkeypatch.setattr(study, "commit", lambda: "def")
    found = study.measure(STUDY._replace(evaluations=[["--tasks=kl_layers"]]), run, STUDY.variants["a"], cores=1)
    assert len(commands) == 4 and found["commit"] == "abc"  # training began there


@pytest.mark.parametrize("of", [vhe_effect, recipes])
def test_the_table_of_docs_is_up_to_date(of):
    assert readme.part(of.STUDY.name) == of.table(json.loads((of.STUDY.out / "results.json").read_text())["runs"])


def test_interval_is_students():
    mean, half = study.interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(4.30265 / 3**0.5, rel=1e-4)  # t(0.975, 2 degrees) x s / sqrt(3), s = 1


def test_curves_are_drawn(run, tmp_path):
    study.curves(STUDY._replace(factor=lambda name, key: 2.0), {"a": [run, run]}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_recipes_are_tabled_best_first_with_paired_errors():
    base = dict.fromkeys(("nelbo", "nll"), measured(np.array([500.0, 600.0, 550.0]), 5.0))
    better = dict.fromkeys(("nelbo", "nll"), measured(np.array([490.0, 590.0, 541.0]), 5.0))
    rows = recipes.table({"base": [base | {"images": 10}], "adamax": [better | {"images": 10}]}).splitlines()
    assert rows[2].startswith("| adamax | 108.1 | -1.9 ± 0.1 |")
    assert rows[3].startswith("| base | 110.0 | +0.0 ± 0.0 |")
