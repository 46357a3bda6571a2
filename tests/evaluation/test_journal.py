"""Evaluation.each and its journal: interruption and continuation, batches and devices that change nothing."""

import os
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_model import tiny_config

from hfsgm_jax.evaluation import TASKS, Evaluation, Task, context, journal
from hfsgm_jax.evaluation.journal import Journal, digest
from hfsgm_jax.evaluation.run import evaluate

ROWS = np.arange(11 * 6, dtype=np.float32).reshape(11, 6) / 10


def noisy(apply, encode, row, key, *, factor):
    """A computation of one row that costs nothing to compile."""
    return {"sum": factor * (row + jax.random.normal(key, row.shape)).sum(), "double": 2 * row}


def computed(folder, *, per_batch=4, devices=1, seed=0, factor=3.0, rows=ROWS, variables=None):
    config = tiny_config()
    config.data.set_size = 1
    config.train.devices = devices
    config.eval.update(sets_per_batch=per_batch, seed=seed)
    evaluation = Evaluation(folder, config, None, {"a": jnp.zeros(2)} if variables is None else variables, 0)
    return evaluation, lambda: evaluation.each("noise", noisy, rows, images_per_row=1, factor=factor)


@pytest.fixture
def calls(monkeypatch):
    """Grows by one with every batch that is computed."""
    found, keep = [], Journal.keep

    def counting(self, name, result):
        found.append(name)
        keep(self, name, result)

    monkeypatch.setattr(Journal, "keep", counting)
    return found


@pytest.mark.parametrize(
    "other", [dict(per_batch=3), dict(per_batch=50), dict(devices=8), dict(devices=4, per_batch=6)]
)
def test_batches_and_devices_change_nothing(tmp_path, other):
    expected = computed(tmp_path / "a")[1]()
    assert expected["sum"].shape == (11,) and expected["double"].shape == (11, 6)
    assert len(np.unique(expected["sum"] - 3 * ROWS.sum(1))) == 11  # a key per row
    found = computed(tmp_path / "b", **other)[1]()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6)


def test_one_program_for_all_batches_and_calls(tmp_path):
    evaluation, run = computed(tmp_path)
    run()
    evaluation.each("more", noisy, ROWS + 1, images_per_row=1, factor=3.0)
    (program,) = evaluation._programs.values()
    assert program._cache_size() == 1


def test_what_was_finished_is_not_computed_again(tmp_path, calls, monkeypatch):
    """Interrupted in the middle of a task; the same call goes on from there."""

    def task(evaluation):
        values = evaluation.each("noise", noisy, ROWS, images_per_row=1, factor=3.0)["sum"]
        yield "all", {"value": float(values.astype(np.float64).sum())}

    monkeypatch.setitem(TASKS, "noisy", Task(task, lambda evaluation: None))
    (whole,) = evaluate(computed(tmp_path / "whole")[0], ["noisy"]).results["noisy"]
    assert len(calls) == 3 and not (tmp_path / "whole" / "eval" / "unfinished").exists()

    calls.clear()
    with monkeypatch.context() as patch:
        keep = Journal.keep

        def interrupted(self, name, result):
            if len(calls) == 2:
                raise KeyboardInterrupt
            keep(self, name, result)

        patch.setattr(Journal, "keep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluate(computed(tmp_path / "cut")[0], ["noisy"])
    unfinished = tmp_path / "cut" / "eval" / "unfinished"
    assert len(list(unfinished.glob("noisy/*.npz"))) == 2 and not (tmp_path / "cut" / "eval" / "noisy.json").exists()

    calls.clear()
    (continued,) = evaluate(computed(tmp_path / "cut")[0], ["noisy"]).results["noisy"]
    assert len(calls) == 1  # the third batch
    assert continued["value"] == whole["value"]
    assert not unfinished.exists()


@pytest.mark.parametrize(
    "changed",
    [dict(seed=1), dict(factor=2.0), dict(rows=ROWS + 1), dict(variables={"a": jnp.ones(2)})],
    ids=lambda changed: next(iter(changed)),
)
def test_what_depends_on_other_things_is_computed_anew(tmp_path, calls, changed):
    computed(tmp_path)[1]()
    calls.clear()
    computed(tmp_path)[1]()
    assert not calls
    computed(tmp_path, **changed)[1]()
    assert len(calls) == 3


def test_a_file_cut_short_is_computed_anew(tmp_path, calls):
    expected = computed(tmp_path)[1]()
    path = sorted((tmp_path / "eval" / "unfinished").glob("*.npz"))[0]
    path.write_bytes(path.read_bytes()[:-40])
    calls.clear()
    np.testing.assert_array_equal(computed(tmp_path)[1]()["sum"], expected["sum"])
    assert len(calls) == 1


def test_a_failed_task_keeps_what_it_finished(tmp_path, calls, monkeypatch):
    """Also when another task ends well after it."""
    works = [False]

    def breaks(evaluation):
        evaluation.each("noise", noisy, ROWS, images_per_row=1, factor=3.0)
        if not works[0]:
            raise RuntimeError("no luck")
        yield "fine", {"value": 1.0}

    def other(evaluation):
        evaluation.each("noise", noisy, ROWS, images_per_row=1, factor=4.0)
        yield "fine", {"value": 1.0}

    for name, run in (("breaks", breaks), ("other", other)):
        monkeypatch.setitem(TASKS, name, Task(run, lambda evaluation: None))
    assert evaluate(computed(tmp_path)[0], ["breaks", "other"]).status == 1
    assert len(calls) == 6
    works[0] = True
    assert evaluate(computed(tmp_path)[0], ["breaks"]).status == 0
    assert len(calls) == 6 and not (tmp_path / "eval" / "unfinished").exists()


def test_leftovers_go_when_the_task_has_ended(tmp_path, calls, monkeypatch):
    """Old ones of the same task that nobody resumed, not of other tasks, nor what another process writes meanwhile."""
    unfinished = tmp_path / "eval" / "unfinished"

    def task(evaluation):
        evaluation.each("noise", noisy, ROWS, images_per_row=1, factor=3.0)
        Journal(unfinished / "noisy").keep("meanwhile", {"a": ROWS})
        yield "fine", {"value": 1.0}

    monkeypatch.setitem(TASKS, "noisy", Task(task, lambda evaluation: None))
    for place in (unfinished, unfinished / "noisy", unfinished / "other"):
        Journal(place).keep("leftover", {"a": ROWS})
        os.utime(place / "leftover.npz", (0, time.time() - journal.LEFT_FOR - 60))
    assert evaluate(computed(tmp_path)[0], ["noisy"]).status == 0
    left = sorted(str(path.relative_to(unfinished)) for path in unfinished.rglob("*.npz"))
    assert left == ["noisy/meanwhile.npz", "other/leftover.npz"]


def test_another_call_of_the_task_leaves_what_an_interrupted_one_had(tmp_path, calls, monkeypatch):
    """A long computation is interrupted, the same task with other options ends, and the first goes on."""
    factor = [1.0]

    def task(evaluation):
        evaluation.each("noise", noisy, ROWS, images_per_row=1, factor=factor[0])
        if factor[0] == interrupted_at[0]:
            raise KeyboardInterrupt
        yield "fine", {"value": 1.0}

    interrupted_at = [1.0]
    monkeypatch.setitem(TASKS, "noisy", Task(task, lambda evaluation: None))
    with pytest.raises(KeyboardInterrupt):
        evaluate(computed(tmp_path)[0], ["noisy"])
    factor[0] = 2.0
    assert evaluate(computed(tmp_path)[0], ["noisy"]).status == 0 and len(calls) == 6
    factor[0], interrupted_at[0] = 1.0, None
    assert evaluate(computed(tmp_path)[0], ["noisy"]).status == 0 and len(calls) == 6
    assert not (tmp_path / "eval" / "unfinished").exists()


def test_other_code_finds_nothing(tmp_path, calls, monkeypatch):
    computed(tmp_path)[1]()
    monkeypatch.setattr(context, "code_of", lambda function: "changed")
    computed(tmp_path)[1]()
    assert len(calls) == 6


def test_the_code_is_that_of_the_package_and_of_the_function(tmp_path, monkeypatch):
    (tmp_path / "a.py").write_text("x = 1")
    names = []
    for content in ("x = 1", "x = 2", "x = 1"):
        (tmp_path / "a.py").write_text(content)
        monkeypatch.setattr(journal, "PACKAGE", tmp_path)
        journal.code_of.cache_clear()
        names.append(journal.code_of(noisy))
    assert names[0] == names[2] != names[1]
    assert journal.code_of(evaluate) != names[2]  # of another file
    journal.code_of.cache_clear()


def test_digests_tell_arrays_and_options_apart():
    names = [digest(*parts) for parts in ((ROWS,), (ROWS.astype(np.float64),), (ROWS.T,), ("1",), (1,), (1.0,), (1, 1))]
    assert len(set(names)) == len(names)
    assert digest({"b": ROWS, "a": 1}) == digest({"a": 1, "b": jnp.asarray(ROWS)})
