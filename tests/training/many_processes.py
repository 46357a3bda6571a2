"""Starts train.py and evaluate.py in several processes of this machine, for tests."""

import itertools
import time
from pathlib import Path

import jax

from hfsgm_jax.training.log import read_metrics
from launch import local

PATIENCE = 300  # seconds for what takes a few, where the machine is not idle
HEARTBEAT = 120  # seconds; waited for only where a broken connection is not noticed


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

    def end(self):
        """Kills what runs."""
        for process in self.running:
            if process.poll() is None:
                process.kill()


def changes(steps):
    """Of the config of a model of single numbers, which compiles within seconds."""
    every = {"train.log_every": 5, "train.eval_every": 10, "train.save_every": 10}
    others = {"optimizer.schedule": "constant", "data.sets_per_batch": 8, "eval.val_sets": 8}
    return {"train.steps": steps} | every | others  # other schedules depend on the number of steps


def endless(workdir, **more):
    """The command that trains it until something happens."""
    flags = [f"--config.{key}={value}" for key, value in (changes(steps=10**6) | more).items()]
    return ["train.py", f"--config={local.ROOT}/configs/one_dim.py:gaussian-ns", f"--workdir={workdir}", *flags]


def wait_for(step, workdir, started, paths):
    deadline = time.monotonic() + PATIENCE
    while not any(line["step"] >= step for line in read_metrics(workdir)):
        assert all(process.poll() is None for process in started), [path.read_text() for path in paths]
        assert time.monotonic() < deadline
        time.sleep(0.05)
