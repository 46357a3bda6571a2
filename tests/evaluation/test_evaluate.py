"""Running tasks: what is kept, refused, failed; rows over devices; the command line."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_evaluation import evaluation_of
from tiny_model import tiny_config

import hfsgm_jax
from hfsgm_jax.errors import ConfigError, DataError, NotApplicable
from hfsgm_jax.evaluation import TASKS, Evaluation, Record
from hfsgm_jax.evaluation.run import choose, run_tasks
from hfsgm_jax.programs import evaluate as program
from hfsgm_jax.rows import _of_rows as compiled
from hfsgm_jax.run_folder import export

ROOT = Path(__file__).resolve().parents[2]
ROWS = np.arange(11 * 6, dtype=np.float32).reshape(11, 6) / 10


def value(x):
    return lambda: {"value": x}


def fine(run):
    one = yield Record("one", {"split": "test"}, value(1.0))
    yield Record("two", {"split": "test"}, value(1 + one["value"]))


def broken(run):
    yield Record("half", {}, value(1.0))
    raise RuntimeError("no luck")


def refused(run):
    raise DataError("no images: get some")
    yield


def senseless(run):
    raise NotApplicable("of no meaning")
    yield


@pytest.fixture
def nothing(tmp_path, monkeypatch):
    """An evaluation that needs no model."""
    for task in (fine, broken, refused, senseless):
        monkeypatch.setitem(TASKS, task.__name__, task)
    return Evaluation(tmp_path, tiny_config(), None, {}, 0)


def test_a_failing_or_refused_task_is_told_and_the_others_go_on(nothing, capsys):
    results, problems = run_tasks(nothing, ["broken", "refused", "senseless", fine])
    assert list(results) == ["fine"]
    texts = {name: str(problem) for name, problem in problems.items()}
    assert texts == {"refused": "no images: get some", "senseless": "of no meaning", "broken": "no luck"}
    out, err = capsys.readouterr()
    assert "no luck" in err and "refused is refused: no images" in err and "broken failed" in err
    assert "2.000" in out and "fine.json" in out
    kept = {name: json.loads((nothing.workdir / "eval" / f"{name}.json").read_text()) for name in ("fine", "broken")}
    assert kept["fine"] == results["fine"] and [record["name"] for record in kept["fine"]] == ["one", "two"]
    assert [record["name"] for record in kept["broken"]] == ["half"]  # what it had measured
    assert not (nothing.workdir / "eval" / "refused.json").exists()


def test_of_all_tasks_those_without_meaning_are_skipped(nothing, monkeypatch, capsys):
    monkeypatch.setattr("hfsgm_jax.evaluation.run.TASKS", {"fine": fine, "senseless": senseless})
    results, problems = run_tasks(nothing, "all")
    assert list(results) == ["fine"] and not problems
    assert "senseless does not apply: of no meaning" in capsys.readouterr().err


def test_all_are_checked_before_any_computes(nothing):
    order = []

    def task(name):
        def run(run):
            order.append(f"check {name}")
            yield Record("one", {}, lambda: order.append(f"measure {name}") or {})

        run.__name__ = name
        return run

    run_tasks(nothing, [task("a"), task("b")])
    assert order == ["check a", "check b", "measure a", "measure b"]
    with pytest.raises(DataError, match="no images"):
        run_tasks(nothing, [task("c"), "refused"], strict=True)
    assert order[4:] == ["check c"]


def test_what_was_finished_is_kept(nothing, capsys):
    """Interrupted in the middle, or repeated; figures over others are drawn again, pictures that are gone as well."""
    measured, stop = [], [True]

    def task(run):
        for size in (1, 2):
            yield Record("number", {"size": size}, lambda size=size: measured.append(size) or {"value": 1.0 * size})
            if stop[0]:
                raise KeyboardInterrupt
        yield Record("picture", {}, lambda: measured.append("picture") or {"pictures": ["eval/a.png"]})
        yield Record("figure", {}, lambda: measured.append("figure") or {"pictures": []}, keep=False)

    with pytest.raises(KeyboardInterrupt):
        run_tasks(nothing, [task])
    stop[0] = False
    results, _ = run_tasks(nothing, [task])
    assert measured == [1, 2, "picture", "figure"]
    assert "1 of 4 records were there already" in capsys.readouterr().out
    run_tasks(nothing, [task])
    assert measured[4:] == ["picture", "figure"]
    (nothing.workdir / "eval" / "a.png").touch()
    again, _ = run_tasks(nothing, [task])
    assert measured[6:] == ["figure"] and again == results
    nothing.config.eval.seed = 1
    run_tasks(nothing, [task])
    assert measured[7:] == [1, 2, "picture", "figure"]


def test_a_condition_that_is_measured_is_refused(nothing):
    _, problems = run_tasks(nothing, [lambda run: iter([Record("one", {}, lambda: {"set_size": 3})])])
    assert "set_size" in str(problems["<lambda>"])


def test_tasks_by_name():
    assert choose("likelihood, sample,likelihood") == ({name: TASKS[name] for name in ("likelihood", "sample")}, False)
    assert choose("all") == (TASKS, True) and list(choose("report,sample")[0]) == ["sample", "report"]
    with pytest.raises(ConfigError, match="'likelyhood' is not one of .*did you mean 'likelihood'"):
        choose("likelyhood")
    with pytest.raises(ConfigError, match="no task"):
        choose(" ,")


def noisy(apply, encode, row, key, *, factor):
    """A computation of one row that costs nothing to compile."""
    return {"sum": factor * (row + jax.random.normal(key, row.shape)).sum(), "double": 2 * row}


@pytest.mark.parametrize("other", [dict(per_batch=3), dict(per_batch=50, devices=8), dict(per_batch=6, devices=4)])
def test_batches_and_devices_change_nothing(other):
    def compute(per_batch=4, devices=1):
        config = tiny_config()
        config.data.set_size, config.train.devices, config.eval.sets_per_batch = 1, devices, per_batch
        run = Evaluation(Path(), config, None, {"a": jnp.zeros(2)}, 0)
        compiled.clear_cache()
        found = run.each("noise", noisy, ROWS, images_per_row=1, factor=3.0)
        run.each("more", noisy, ROWS + 1, images_per_row=1, factor=3.0)
        assert compiled._cache_size() == 1
        return found

    expected, found = compute(), compute(**other)
    assert expected["double"].shape == (11, 6)
    assert len(np.unique(expected["sum"] - 3 * ROWS.sum(1))) == 11  # a key per row
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(importance_samples=0), "eval.importance_samples=0 is not a whole number of at least 1"),
        (dict(estimator="nest"), "eval.estimator='nest' .*did you mean 'nested'"),
        (dict(set_size=21), "eval.set_size.* 21 .*largest class of strokes .test. has 20 images"),
        (dict(source="mnits"), "did you mean 'mnist'"),
        (dict(setsize=4), "eval.setsize is not of an evaluation, .*; did you mean 'eval.set_size'"),
        (dict(image_size=32), "eval.image_size is not of an evaluation, which takes eval.KEY"),
    ],
)
def test_options_that_cannot_be_are_refused_from_python(run_folder, options, message):
    with pytest.raises(ConfigError, match=message):
        hfsgm_jax.evaluate(run_folder, "likelihood", **options)


def test_grey_images_are_no_binary_pixels(run_folder):
    run = Evaluation.open(run_folder, {})
    run.config.data.binarize = "none"
    with pytest.raises(DataError, match="binary pixels, and these are grey"):
        run.load()


def test_likelihood_is_recorded_with_its_conditions(run_folder, capsys):
    results = hfsgm_jax.evaluate(run_folder, ["likelihood"])
    assert "nelbo" in capsys.readouterr().out
    records = {result["name"]: result for result in results}
    kept = json.loads((run_folder / "eval" / "likelihood.json").read_text())
    assert all(result in kept for result in results)
    assert set(records) == {"nelbo", "nll", "convergence", "independent_pixels"}
    nll = records["nll"]
    conditions = dict(source="strokes", split="test", set_size=3, num_sets=5, estimator="joint", importance_samples=4)
    assert conditions.items() <= nll.items()
    assert nll["step"] == 2 and nll["seed"] == 0 and nll["dtype"] == "float32" and nll["standard_error"] > 0
    assert records["nelbo"]["value"] > nll["value"] > 0
    parts = records["nelbo"]["parts"]
    assert abs(parts["kl_z"] + parts["kl_c"] - parts["log_px"] - records["nelbo"]["value"]) < 1e-3


def test_results_of_rounded_weights_are_told_from_the_runs_own(run_folder, tmp_path):
    export(run_folder, tmp_path, dtype="bfloat16")
    own = evaluation_of(run_folder).run_conditions
    assert "weights" not in own and evaluation_of(tmp_path).run_conditions == own | {"weights": "bfloat16"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workdir=a,b", "--tasks=report", "--eval.shots=1"], "and --out, go with --tasks=report alone"),
        (["--tasks=all"], "the following arguments are required: --workdir"),
    ],
)
def test_command_line_errors(flags, message, capsys):
    with pytest.raises(SystemExit) as error:
        program.main(flags)
    assert error.value.code == 2 and message in capsys.readouterr().err


def test_as_a_program_it_ends_with_a_sentence():
    command = [sys.executable, "evaluate.py", "--workdir=nowhere", "--eval.shots=1,5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "nowhere does not exist, nor is it a model" in done.stderr
