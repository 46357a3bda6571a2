"""The studies of many runs: what is kept, what is refused, what is drawn."""

import json
from unittest.mock import ANY

import pytest

from scripts import readme, recipes, study, vhe_effect

METRICS = [
    {"step": step, "images": 10 * step, "seconds": 1.5 * step, "train/nelbo": 200 / step, "train/kl_c": 1 / step}
    for step in (1, 2, 4)
]
RECORDS = [{"name": "nelbo", "value": 99.0, "step": 2}, {"name": "nelbo", "value": 88.0, "step": 4}]


@pytest.fixture
def run(tmp_path):
    """The folder of a run of 4 steps, evaluated at 2 and at 4."""
    folder = tmp_path / "runs" / "a"
    (folder / "eval").mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in METRICS))
    (folder / "eval" / "likelihood.json").write_text(json.dumps(RECORDS))
    return folder


def nelbo(folder):
    return {"nelbo": study.records(folder, "likelihood")[-1]["value"]}


def test_a_finished_variant_is_not_trained_again(run, monkeypatch):
    trained = []
    monkeypatch.setattr(study, "_train_and_evaluate", lambda folder, *_: trained.append(folder))
    variant = study.Variant("a", "configs/quickstart.py", 4, ("seed=1",))
    for _ in range(2):
        assert study.measure(run.parent, [variant], [], nelbo, jobs=1) == {"a": {"nelbo": 88.0, "commit": ANY}}
    assert trained == [run]


@pytest.mark.parametrize("steps,evaluations", [(8, []), (4, [("likelihood", ["--eval.max_sets=1"])])])
def test_numbers_of_another_variant_or_evaluation_are_refused(run, monkeypatch, steps, evaluations):
    monkeypatch.setattr(study, "_train_and_evaluate", lambda *_: None)
    study.measure(run.parent, [study.Variant("a", "configs/quickstart.py", 4)], [], nelbo, jobs=1)
    with pytest.raises(SystemExit, match="name a new folder"):
        study.measure(run.parent, [study.Variant("a", "configs/quickstart.py", steps)], evaluations, nelbo, jobs=1)


@pytest.mark.parametrize("name,script", [("vhe_effect", vhe_effect), ("recipes", recipes)])
def test_tables_of_the_readme_are_up_to_date(name, script):
    results = json.loads((script.OUT / "results.json").read_text())
    assert readme.part(name) == script.table(results["runs"])


def test_interval_is_students():
    mean, half = study.interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(4.30265 / 3**0.5, rel=1e-4)  # t(0.975, 2 degrees) x s / sqrt(3), s = 1


def test_curves_are_drawn(run, tmp_path):
    study.curves({"a": [run]}, vhe_effect.PANELS, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_every_recipe_sees_the_same_images():
    sizes = {name: recipes.variant(name, 24_000) for name in recipes.RECIPES}
    for name, variant in sizes.items():
        changes = dict(change.split("=", 1) for change in variant.changes)
        size = 6 if "data.set_size" in changes else 5
        assert variant.steps * size * int(changes.get("data.sets_per_batch", 8)) == 24_000, name
    assert len({variant.name for variant in sizes.values()}) == len(sizes)


def test_recipes_are_tabled_best_first():
    run = {"nelbo_whole_class": 90.0, "images": 10}
    rows = recipes.table({"base": run | {"nelbo": 100.0}, "adamax": run | {"nelbo": 98.0}}).splitlines()
    assert rows[2].startswith("| adamax | 98.0 | -2.0 |")
    assert rows[3].startswith("| base | 100.0 | +0.0 |")
