"""Starts tiny trainings and evaluations in several processes of this machine, for tests."""

import itertools
import os
import time
from pathlib import Path

import jax
import tiny_training

from hfsgm_jax.run_folder import read_metrics
from launch import local

PATIENCE = 300  # seconds for what takes a few, where the machine is not idle
HEARTBEAT = 60  # seconds; waited for only where a broken connection is not noticed
ENDLESS = ["train__steps=1000000"]


class Programs:
    """Starts `tiny_training` in processes that compile quickly; kills what a test leaves behind."""

    def __init__(self, folder: Path):
        self.folder, self.count, self.running = folder, itertools.count(), []

    def start(self, task, workdir, changes, layout):
        """The processes, and the files of their output."""
        quick = dict(
            XLA_FLAGS=os.environ.get("XLA_FLAGS", ""),
            JAX_DISABLE_MOST_OPTIMIZATIONS="1",
            JAX_COMPILATION_CACHE_DIR=jax.config.values["jax_compilation_cache_dir"],
            JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
            HFSGM_HEARTBEAT_SECONDS=str(HEARTBEAT),
        )
        paths = [self.folder / f"output{next(self.count)}" for _ in range(layout[0])]
        command = [tiny_training.__file__, task, str(workdir), *changes]
        started = local.start(command, *layout, environment=quick, outputs=[path.open("w") for path in paths])
        self.running += started
        return started, paths

    def end(self):
        """Kills what runs."""
        for process in self.running:
            if process.poll() is None:
                process.kill()


def wait_for(step, workdir, started, paths):
    deadline = time.monotonic() + PATIENCE
    while not any(line["step"] >= step for line in read_metrics(workdir)):
        assert all(process.poll() is None for process in started), [path.read_text() for path in paths]
        assert time.monotonic() < deadline
        time.sleep(0.05)
