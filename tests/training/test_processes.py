"""Several processes on loopback: the same training, the same records, and what happens when one dies."""

import itertools
import json
import os
import shutil
import signal
import time
from pathlib import Path

import jax
import pytest

from hfsgm_jax import processes
from hfsgm_jax.config import ConfigError
from hfsgm_jax.training.log import read_metrics
from launch import local

LOSSES = "train/loss", "train/nelbo", "val/nelbo", "val/objective"
# Every layout has the same batches and noise, and adds up the same terms in another order: each sum of float32
# values is off by some 1e-7 of itself, and 20 steps of Adam magnify that a little.
TOLERANCE = 2e-6
HEARTBEAT = 10  # seconds
STEPS, PATIENCE = 20, 300  # seconds for what takes a few, where the machine is not idle


class Programs:
    """Starts train.py and evaluate.py in processes that compile quickly; kills what a test leaves behind."""

    def __init__(self, folder: Path):
        self.folder, self.count, self.running = folder, itertools.count(), []

    def start(self, command, layout, **environment):
        """The processes, and the files of their output."""
        quick = dict(
            XLA_FLAGS="--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
            JAX_DISABLE_MOST_OPTIMIZATIONS="1",
            JAX_COMPILATION_CACHE_DIR=jax.config.values["jax_compilation_cache_dir"],
            JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
            HFSGM_CACHE=str(self.folder / "cache"),
            HFSGM_HEARTBEAT_SECONDS=str(HEARTBEAT),
        )
        paths = [self.folder / f"output{next(self.count)}" for _ in range(layout[0])]
        outputs = [path.open("w") for path in paths]
        started = local.start(command, *layout, environment=quick | environment, outputs=outputs)
        self.running += started
        return started, paths

    def run(self, command, layout):
        """The outputs of processes that end well."""
        started, paths = self.start(command, layout)
        for process, path in zip(started, paths, strict=True):
            assert process.wait() == 0, path.read_text()
        return [path.read_text() for path in paths]

    def train(self, workdir, steps=STEPS):
        """The command that trains a model of single numbers, which compiles within seconds."""
        train = dict(steps=steps, log_every=5, eval_every=10, save_every=10)
        settings = [f"--config.train.{key}={value}" for key, value in train.items()]
        settings += ["--config.optimizer.schedule=constant"]  # the others depend on the number of steps
        settings += ["--config.data.sets_per_batch=8", "--config.eval.val_sets=8", f"--workdir={workdir}"]
        return ["train.py", "--config=configs/one_dim.py:gaussian-ns", *settings]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    programs = Programs(tmp_path_factory.mktemp("programs"))
    yield programs
    for process in programs.running:
        if process.poll() is None:
            process.kill()


@pytest.fixture(scope="module")
def alone(programs, tmp_path_factory):
    """The folder of a run of one process with one device, not to be changed."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    programs.run(programs.train(workdir), (1, 1))
    return workdir


def losses(workdir):
    return [line["step"] for line in read_metrics(workdir)], [
        line[name] for line in read_metrics(workdir) for name in LOSSES if name in line
    ]


@pytest.mark.parametrize("layout", [(1, 8), (2, 4), (4, 2)], ids=lambda layout: "{}x{}".format(*layout))
def test_every_layout_trains_alike(programs, alone, tmp_path, layout):
    moves = layout == (2, 4)  # a run of two processes that ends in one
    outputs = programs.run(programs.train(tmp_path / "run", steps=10 if moves else STEPS), layout)
    if moves:
        programs.run(programs.train(tmp_path / "run"), (1, 1))
    steps, values = losses(tmp_path / "run")
    assert steps == losses(alone)[0] == [5, 10, 15, 20]
    assert values == pytest.approx(losses(alone)[1], rel=TOLERANCE)
    assert "8 devices" in outputs[0] and not any("step 10" in output for output in outputs[1:])


def wait_for(step, workdir, started):
    deadline = time.monotonic() + PATIENCE
    while not any(line["step"] >= step for line in read_metrics(workdir)):
        assert all(process.poll() is None for process in started) and time.monotonic() < deadline
        time.sleep(0.05)


def test_one_that_dies_or_is_told_to_stop_ends_all(programs, tmp_path):
    workdir, command = tmp_path / "run", programs.train(tmp_path / "run", steps=10**6)
    started, paths = programs.start(command, (2, 1))
    wait_for(20, workdir, started)
    started[1].send_signal(signal.SIGKILL)
    # At once if a connection breaks (and then it is a Python error), else when its heartbeats are missed.
    status = started[0].wait(6 * HEARTBEAT)
    said = paths[0].read_text()
    assert status and ("lost another process" in said or "another task died" in said), said
    killed_at = read_metrics(workdir)[-1]["step"]

    started, paths = programs.start(command, (2, 1))
    wait_for(killed_at + 20, workdir, started)
    started[1].send_signal(signal.SIGTERM)  # to one alone: both take the same last step
    assert [process.wait(PATIENCE) for process in started] == [143, 143]
    assert f"continuing {workdir} from step" in paths[0].read_text() and "SIGTERM" in paths[0].read_text()
    steps = [line["step"] for line in read_metrics(workdir)]
    assert steps == list(range(5, steps[-1] + 1, 5))


def test_records_do_not_depend_on_processes(programs, alone, tmp_path):
    options = ["--tasks=likelihood", "--eval.max_sets=10", "--eval.sets_per_batch=4", "--eval.importance_samples=4"]
    records, values = {}, {}
    for count in (1, 2):
        workdir = shutil.copytree(alone, tmp_path / str(count))
        outputs = programs.run(["evaluate.py", f"--workdir={workdir}", *options], (count, 1))
        assert "nll" in outputs[0] and not any("nll" in output for output in outputs[1:])
        found = json.loads((workdir / "eval" / "likelihood.json").read_text())
        measured = ("value", "standard_error", "seconds")
        records[count] = [{key: value for key, value in record.items() if key not in measured} for record in found]
        values[count] = [record.get(key, 0) for record in found for key in measured[:2]]
        assert not (workdir / "eval" / "unfinished").exists()
    assert records[1] == records[2]
    # A device computes 4 rows at once, or 2: the same numbers, of which the compiler rounds some otherwise.
    assert values[1] == pytest.approx(values[2], rel=1e-6)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((None, 2, None), "--coordinator=HOST:PORT is missing"),
        (("auto", None, 1), "finds them by itself"),
        (("node:1", 2, None), "needs --num_processes=N and --process_id"),
        (("node:1", 2, 2), "not in 0..N-1"),
        (("node", 2, 1), "is not HOST:PORT"),
        (("node:99999", 2, 1), "is not HOST:PORT"),
    ],
)
def test_flags_that_do_not_go_together(flags, message):
    with pytest.raises(ConfigError, match=message):
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
