"""evaluate.py on a trained run: results, failures of tasks, and errors before any computation."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hfsgm_jax.config import ConfigError
from hfsgm_jax.evaluation import TASKS, Evaluation, EvaluationError
from hfsgm_jax.evaluation.run import evaluate, parse_tasks
from hfsgm_jax.run_folder import open_run, run_config

ROOT = Path(__file__).resolve().parents[2]


def evaluation_of(folder, **options):
    run = open_run(folder, overrides={f"eval.{key}": value for key, value in options.items()})
    return Evaluation(Path(folder), run.config, run.model, run.variables, run.step)


def test_likelihood_is_recorded_with_its_conditions(run_folder, capsys, monkeypatch):
    def broken(evaluation):
        yield "half", {"value": 1.0}
        raise RuntimeError("no luck")

    monkeypatch.setitem(TASKS, "broken", broken)
    results = evaluate(evaluation_of(run_folder), ["broken", "likelihood"])
    assert list(results) == ["likelihood"]
    out, err = capsys.readouterr()
    assert "no luck" in err and "nelbo" in out
    assert not (run_folder / "eval" / "broken.json").exists()
    records = {record["name"]: record for record in json.loads((run_folder / "eval" / "likelihood.json").read_text())}
    assert set(records) == {"nelbo", "nll", "independent_pixels"}
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
        (dict(estimator="nest"), "joint"),
        (dict(set_size=21), "largest class of strokes .test. has 20 images"),
        (dict(set_size=-1), "set_size is -1"),
        (dict(max_sets=-1), "max_sets is -1"),
    ],
)
def test_options_out_of_range_are_refused(run_folder, options, message):
    with pytest.raises(EvaluationError, match=message):
        evaluate(evaluation_of(run_folder, **options), ["likelihood"])


def test_tasks_by_name():
    assert parse_tasks("likelihood, sample,likelihood") == ["likelihood", "sample"]
    assert parse_tasks("all") == list(TASKS)
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
