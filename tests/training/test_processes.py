"""Several processes on loopback: the same training, the same records, and what ends them."""

import json
import os
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from many_processes import ENDLESS, PATIENCE, wait_for
from tiny_training import TinyModel, tiny_config, tiny_dataset, train_tiny

import hfsgm_jax
from hfsgm_jax import processes
from hfsgm_jax.errors import ConfigError, DataError
from hfsgm_jax.run_folder import read_metrics, saved_steps

LOSSES = "train/loss", "train/nelbo", "val/nelbo", "val/objective"
# Every layout has the same batches and noise, and adds up the same terms in another order: each sum of float32
# values is off by some 1e-7 of itself, and 20 steps of Adam magnify that a little.
TOLERANCE = 2e-6
STEPS = 20


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of a run of one process with one device, not to be changed."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    train_tiny(tiny_config(train__steps=STEPS), workdir)
    return workdir


def endless(devices):
    return [*ENDLESS, f"train__devices={devices}"]


def assert_same_losses(workdir, other, steps=range(5, STEPS + 1, 5)):
    """Of these steps, which both have."""
    found = [{line["step"]: line for line in read_metrics(folder)} for folder in (workdir, other)]
    for step in steps:
        mine, others = ([lines[step][name] for name in LOSSES if name in lines[step]] for lines in found)
        assert mine == pytest.approx(others, rel=TOLERANCE) and len(mine) == (4 if step % 10 == 0 else 2)


def test_processes_train_alike_end_together_and_move_on(programs, alone, tmp_path):
    """As 2x4 until one is killed; on from its checkpoint as 2x1 until one is told to stop, and as 1x1 to compare."""
    workdir, other = tmp_path / "run", tmp_path / "other"
    started, paths = programs.start("train", workdir, endless(8), (2, 4))
    wait_for(STEPS, workdir, started, paths)
    started[1].send_signal(signal.SIGKILL)
    # At once if a connection breaks (and then it is a Python error), else when its heartbeats are missed.
    assert all(process.wait(PATIENCE) for process in started)
    said = [path.read_text() for path in paths]
    assert "lost another process" in said[0] or "another task died" in said[0], said[0]
    assert "8 devices" in said[0] and not any("step 10" in text for text in said[1:])
    assert_same_losses(workdir, alone)

    shutil.copytree(workdir, other)
    started, paths = programs.start("train", workdir, endless(2), (2, 1))
    saved = saved_steps(other / "checkpoints")[-1]
    wait_for(saved + 20, workdir, started, paths)
    started[1].send_signal(signal.SIGTERM)  # to one alone: both take the same last step
    assert [process.wait(PATIENCE) for process in started] == [143, 143]
    said = paths[0].read_text()
    assert f"continuing {workdir} from step {saved}" in said and "2 devices" in said and "SIGTERM" in said
    steps = [line["step"] for line in read_metrics(workdir)]
    assert steps == sorted({*range(5, steps[-1] + 1, 5), steps[-1]})

    train_tiny(tiny_config(train__steps=saved + 20), other)
    assert_same_losses(workdir, other, range(saved + 5, saved + 21, 5))


def test_the_loss_of_the_first_process_ends_the_other_and_time_ends_both(programs, tmp_path):
    started, paths = programs.start("train", tmp_path, endless(2), (2, 1))
    wait_for(25, tmp_path, started, paths)  # after two saves
    started[0].send_signal(signal.SIGKILL)  # the one that coordinates and writes
    assert [process.wait(PATIENCE) != 0 for process in started] == [True, True], [path.read_text() for path in paths]

    seconds = read_metrics(tmp_path)[-1]["seconds"]
    budget = f"train__minutes={(seconds + 0.5) / 60}"
    started, paths = programs.start("train", tmp_path, [*endless(2), budget], (2, 1))
    said = [path.read_text() for process, path in zip(started, paths) if process.wait(PATIENCE) == 0]
    assert len(said) == 2 and "continuing" in said[0] and "time budget spent" in said[0]
    lines = read_metrics(tmp_path)
    assert lines[-1]["seconds"] >= seconds + 0.5 and "val/nelbo" in lines[-1]
    assert [line["step"] for line in lines[:-1]] == list(range(5, 5 * len(lines), 5))


def test_records_do_not_depend_on_processes(programs, alone, tmp_path):
    options = {"max_sets": 7, "sets_per_batch": 4, "importance_samples": 4}
    here, two = (shutil.copytree(alone, tmp_path / name) for name in "12")
    started, paths = programs.start("evaluate", two, [f"{key}={value}" for key, value in options.items()], (2, 1))
    assert [process.wait(PATIENCE) for process in started] == [0, 0], [path.read_text() for path in paths]
    hfsgm_jax.evaluate(here, ["likelihood"], tiny_dataset(), TinyModel(), **options)

    records, values = [], []
    for workdir in (here, two):
        found = json.loads((workdir / "eval" / "likelihood.json").read_text())
        measured = ("value", "standard_error", "seconds")
        records.append([{key: value for key, value in record.items() if key not in measured} for record in found])
        values.append([record.get(key, 0) for record in found for key in measured[:2]])
    assert records[0] == records[1] and len(records[0])
    # A device computes 4 rows at once, or 2: the same numbers, of which the compiler rounds some otherwise.
    assert values[0] == pytest.approx(values[1], rel=1e-6)


@pytest.mark.parametrize("flags", [(None, 2, None), ("auto", None, 1), ("node", 2, 1)])
def test_flags_that_do_not_go_together(flags):
    with pytest.raises(ConfigError, match=f"^--coordinator={flags[0]}: --num_processes and --process_id go with"):
        processes.start(*flags)


def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "file.txt"
    with processes.replacing(path) as partial:
        partial.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one" and os.listdir(path.parent) == ["file.txt"]
    monkeypatch.setattr(processes, "is_writer", lambda: False)
    with processes.replacing(path) as partial:
        partial.write_text("two")
    assert path.read_text() == "one" and os.listdir(path.parent) == ["file.txt"]


def in_two_processes(monkeypatch, program):
    """The results or errors of ``program(process)`` in two processes that are threads."""
    index, barrier, sent = threading.local(), threading.Barrier(2, timeout=10), {}

    def allgather(value):
        sent[index.value] = value
        barrier.wait()
        found = np.stack([sent[0], sent[1]])
        barrier.wait()
        return found

    def run(i):
        index.value = i
        try:
            return program(i)
        except Exception as error:  # noqa: BLE001  the test looks at it
            return error

    monkeypatch.setattr(processes, "alone", lambda: False)
    monkeypatch.setattr(processes, "is_writer", lambda: index.value == 0)
    monkeypatch.setattr(processes.multihost_utils, "process_allgather", allgather)
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(run, range(2)))


@pytest.mark.parametrize("failing", [(), (0,), (1,), (0, 1)])
def test_the_first_makes_something_for_the_others_or_all_are_told(monkeypatch, failing):
    order = []

    def make(i):
        order.append(i)
        if i in failing:
            raise DataError(f"no data in {i}")
        return i

    results = in_two_processes(monkeypatch, lambda i: processes.writer_first(lambda: make(i), "data"))
    assert order == ([0] if 0 in failing else [0, 1])  # where the first fails nobody else tries
    if not failing:
        assert results == [0, 1]
        return
    first, other = results[failing[0]], results[1 - failing[0]]
    assert isinstance(first, DataError) and isinstance(other, ConfigError)
    assert str(other) == f"process {failing[0]} failed with its data: {first}"


def test_differences_are_told_to_all(monkeypatch):
    results = in_two_processes(monkeypatch, lambda i: processes.check_same(str(i), "the config"))
    assert [str(error) for error in results] == [
        "the config differs between process 0 and [1]; all have to be given the same"
    ] * 2
    assert in_two_processes(monkeypatch, lambda i: processes.all_agree(i == 0)) == [False, False]
    assert in_two_processes(monkeypatch, lambda i: processes.all_agree(True)) == [True, True]


def test_a_failed_download_is_no_lost_process(monkeypatch):
    ends = []
    monkeypatch.setattr(processes, "alone", lambda: False)
    monkeypatch.setattr(processes, "leave", lambda *end: ends.append(end))
    reset = ConnectionResetError("Connection reset by peer")
    with pytest.raises(DataError), processes.together(DataError):
        raise DataError("cannot be downloaded") from reset
    assert not ends
    with processes.together(DataError):
        raise RuntimeError("all-reduce failed") from reset
    ((status, said),) = ends
    assert status == 1 and "process 0 of 1 ends: all-reduce failed; where it lost another process" in said


@pytest.mark.parametrize(("arguments", "who"), [(("node:1", 2, 1), "process 1 of 2"), (("auto",), "this process")])
def test_refusals_of_jax_are_told(monkeypatch, arguments, who):
    def refuse(**_):
        raise RuntimeError("initialize must be called before\nanything else")

    monkeypatch.setattr(jax.distributed, "initialize", refuse)
    monkeypatch.setattr(jax.config, "update", lambda *_: None)  # of this process, which goes on
    with pytest.raises(ConfigError, match=f"^{who} cannot join the others by .*: initialize must be called before$"):
        processes.start(*arguments)
