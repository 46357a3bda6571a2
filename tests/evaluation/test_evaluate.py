"""evaluate.py on a trained run: results, failures of tasks, and errors before any computation."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_evaluation import evaluation_of
from tiny_model import tiny_config

from hfsgm_jax.config import ConfigError
from hfsgm_jax.data import DataError
from hfsgm_jax.evaluation import TASKS, Evaluation, EvaluationError, NotApplicable, Task
from hfsgm_jax.evaluation.run import evaluate, parse_tasks
from hfsgm_jax.run_folder import export, run_config

ROOT = Path(__file__).resolve().parents[2]


def _raise(error):
    raise error


def _broken(evaluation):
    yield "half", {"value": 1.0}
    raise RuntimeError("no luck")


def _fine(evaluation):
    yield "one", {"value": 1.0, "split": "test"}
    yield "two", {"value": 2.0, "split": "test"}


FAKES = {
    "fine": Task(_fine, lambda evaluation: None),
    "broken": Task(_broken, lambda evaluation: None),
    "refused": Task(_fine, lambda evaluation: _raise(DataError("no images: get some"))),
    "senseless": Task(_fine, lambda evaluation: _raise(NotApplicable("of no meaning"))),
}


@pytest.fixture
def nothing(tmp_path, monkeypatch):
    """An evaluation that needs no model, for `FAKES`."""
    for name, task in FAKES.items():
        monkeypatch.setitem(TASKS, name, task)
    return Evaluation(tmp_path, tiny_config(), None, {}, 0)


def test_a_failing_or_refused_task_is_reported_and_the_others_go_on(nothing, capsys):
    outcome = evaluate(nothing, ["broken", "refused", "senseless", "fine"])
    assert list(outcome.results) == ["fine"] and list(outcome.failed) == ["broken"]
    assert outcome.refused == {"refused": "no images: get some", "senseless": "of no meaning"}
    assert not outcome.inapplicable
    out, err = capsys.readouterr()
    assert "no luck" in err and "refused is refused: no images" in err and "senseless is refused: of no meaning" in err
    assert "2.000" in out and "fine.json" in out
    kept = {name: json.loads((nothing.folder / f"{name}.json").read_text()) for name in ("fine", "broken")}
    assert [record["name"] for record in kept["fine"]] == ["one", "two"]
    assert [record["name"] for record in kept["broken"]] == ["half"]  # what it had yielded
    assert not (nothing.folder / "refused.json").exists()


def test_of_all_tasks_those_without_meaning_are_skipped(nothing, capsys):
    outcome = evaluate(nothing, ["senseless", "fine"], skip_inapplicable=True)
    assert outcome.inapplicable == {"senseless": "of no meaning"} and not outcome.refused
    assert outcome.status == 0 and "senseless does not apply: of no meaning" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("tasks", "status"),
    [
        (["fine"], 0),
        (["fine", "broken"], 1),
        (["fine", "refused"], 1),
        (["broken"], 1),
        (["broken", "refused"], 1),
        (["refused"], 2),
        (["senseless", "refused"], 2),
    ],
)
def test_exit_status(nothing, tasks, status):
    assert evaluate(nothing, tasks).status == status


def test_all_are_checked_before_any_computes(nothing, monkeypatch):
    order = []

    def task(name):
        return Task(lambda evaluation: iter(order.append(f"run {name}") or ()), lambda _: order.append(f"check {name}"))

    for name in "ab":
        monkeypatch.setitem(TASKS, name, task(name))
    evaluate(nothing, ["a", "b"])
    assert order == ["check a", "check b", "run a", "run b"]


def test_likelihood_is_recorded_with_its_conditions(run_folder, capsys):
    outcome = evaluate(evaluation_of(run_folder), ["likelihood"])
    assert outcome.status == 0 and "nelbo" in capsys.readouterr().out
    (results,) = outcome.results.values()
    records = {record["name"]: record for record in results}
    kept = json.loads((run_folder / "eval" / "likelihood.json").read_text())
    assert all(record in kept for record in json.loads(json.dumps(results)))
    assert set(records) == {"nelbo", "nll", "convergence", "independent_pixels"}
    nll = records["nll"]
    conditions = dict(source="strokes", split="test", set_size=3, num_sets=5, estimator="joint", importance_samples=4)
    assert conditions.items() <= nll.items()
    assert nll["step"] == 2 and nll["seed"] == 0 and nll["dtype"] == "float32" and nll["standard_error"] > 0
    assert records["nelbo"]["value"] > nll["value"] > 0
    parts = records["nelbo"]["parts"]
    assert abs(parts["kl_z"] + parts["kl_c"] - parts["log_px"] - records["nelbo"]["value"]) < 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(importance_samples=0, chunk=0), "importance_samples is 0.*\n.*chunk is 0"),
        (dict(importance_samples_z=0), "importance_samples_z is 0"),
        (dict(estimator="nest"), "joint, nested, not 'nest'"),
        (dict(set_size=-1), "set_size is -1"),
        (dict(set_sizes=(1, 0)), "set_sizes is .1, 0."),
        (dict(max_sets=-1), "max_sets is -1"),
    ],
)
def test_options_out_of_range_are_refused(run_folder, options, message):
    with pytest.raises(EvaluationError, match=message):
        evaluate(evaluation_of(run_folder, **options), ["likelihood"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(set_size=21), "eval.set_size.* 21 .*largest class of strokes .test. has 20 images"),
        (dict(split="tests"), "split.*tests"),
        (dict(source="mnits"), "mnits"),
    ],
)
def test_sets_that_cannot_be_drawn_are_refused(run_folder, options, message):
    outcome = evaluate(evaluation_of(run_folder, **options), ["likelihood"])
    assert re.search(message, outcome.refused["likelihood"]) and outcome.status == 2


def test_sets_of_ragged_classes(run_folder):
    """Trained with sets of 3: asked for or not, they may be whole smaller classes; those of ``set_sizes`` may not."""
    ragged = SimpleNamespace(size=np.array([2, 6]), info=dict(source="npz", split="test"))
    for options in ({}, dict(set_size=2), dict(set_size=3), dict(set_size=6)):
        evaluation_of(run_folder, **options).check_sets(ragged)
    message = "the largest class of npz .test. has 6 images; use --eval.set_size of 6 or less"
    with pytest.raises(EvaluationError, match=message):
        evaluation_of(run_folder, set_size=7).check_sets(ragged)
    with pytest.raises(EvaluationError, match="eval.set_sizes asks for sets of 4 images.*smallest class"):
        evaluation_of(run_folder).check_sets(ragged, (1, 4))


def test_results_of_rounded_weights_are_told_from_the_runs_own(run_folder, tmp_path):
    """Exported in float32 they are the run's."""
    found = {}
    for dtype in ("float32", "bfloat16"):
        export(run_folder, tmp_path / dtype, dtype=dtype)
        found[dtype] = evaluation_of(tmp_path / dtype).run_conditions
    own = evaluation_of(run_folder).run_conditions
    assert "weights" not in own and found["float32"] == own and found["bfloat16"] == own | {"weights": "bfloat16"}


def test_tasks_by_name():
    assert parse_tasks("likelihood, sample,likelihood") == (["likelihood", "sample"], False)
    assert parse_tasks("all") == (list(TASKS), True)
    with pytest.raises(EvaluationError, match="'likelyhood'; did you mean 'likelihood'"):
        parse_tasks("likelyhood")
    with pytest.raises(EvaluationError, match="no task"):
        parse_tasks(" ,")


def test_config_of_a_run(run_folder, tmp_path):
    config = run_config(run_folder, {"eval.set_size": 4}, {"eval.new_key": 7, "eval.set_size": 9})
    assert (config.eval.set_size, config.eval.new_key) == (4, 7)
    with pytest.raises(ConfigError, match="did you mean 'eval.set_size'"):
        run_config(run_folder, {"eval.setsize": 4})
    with pytest.raises(ConfigError, match="config.json does not exist"):
        run_config(tmp_path)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workdir=nowhere", "--eval.setsize=3"], "unknown config key 'eval.setsize'; did you mean 'eval.set_size'?"),
        (["--workdir=nowhere", "--data.image_size=32"], "data.image_size belongs to the trained model"),
        (["--tasks=all"], "workdir"),
    ],
)
def test_command_line_errors(flags, message):
    done = subprocess.run([sys.executable, "evaluate.py", *flags], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr
