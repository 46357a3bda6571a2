"""Damaged checkpoints, full disks, kills while saving: a run survives them."""

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import chex
import pytest
from test_training_loop import ROOT, environment, untimed
from tiny_training import tiny_config, train_tiny

from hfsgm_jax.errors import CheckpointError
from hfsgm_jax.run_folder import MANIFEST, damage, load_variables
from hfsgm_jax.training import StorageError, log


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of 20 steps with averaged parameters, not to be changed."""
    workdir = tmp_path_factory.mktemp("run")
    return workdir, train_again(workdir)


@pytest.fixture
def copied(finished, tmp_path):
    return Path(shutil.copytree(finished[0], tmp_path / "run"))


def train_again(workdir):
    return train_tiny(tiny_config(optimizer__ema=0.99), workdir)


def assert_same(finished, again, workdir):
    """The same bits, the same lines of metrics."""
    chex.assert_trees_all_equal(again.state, finished[1].state)
    assert again.best == finished[1].best and untimed(workdir) == untimed(finished[0])


def checkpoints(workdir):
    return sorted(path.name for path in (workdir / "checkpoints").iterdir())


def largest_file(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize(
    ("item", "harm", "reason"),
    [
        ("model", flip_bit, "model/.* does not have the bytes that were written"),
        ("training", Path.unlink, "training/.* is missing"),
        ("metrics", truncate, "metrics/.* does not have the bytes"),  # Orbax cannot even list the checkpoints then
        (MANIFEST, truncate, MANIFEST),
    ],
)
def test_a_damaged_latest_checkpoint_falls_back_to_the_same_bits(finished, copied, item, harm, reason):
    place = copied / "checkpoints" / "20" / item
    harm(place if place.is_file() else largest_file(place))
    expected = (
        rf"checkpoint 20 cannot be read \(.*{reason}.*\).*; continuing from checkpoint 10: steps 11 to 20 are done"
    )
    with pytest.warns(UserWarning, match=expected):
        again = train_again(copied)
    assert_same(finished, again, copied)
    assert checkpoints(copied) == ["10", "20", "unreadable-20"]


def test_a_latest_checkpoint_that_is_gone_falls_back_to_the_same_bits(finished, copied):
    shutil.rmtree(copied / "checkpoints" / "20")
    assert_same(finished, train_again(copied), copied)


def test_damage_of_all_checkpoints_is_an_error_and_changes_nothing(copied):
    for number in ("10", "20"):
        flip_bit(largest_file(copied / "checkpoints" / number / "model"))
    with pytest.raises(CheckpointError, match=r"none of the checkpoints \[10, 20\].*model/"):
        train_again(copied)
    with pytest.raises(CheckpointError, match="checkpoint 10 .*model/.* does not have the bytes"):
        load_variables(copied, 10)
    assert checkpoints(copied) == ["10", "20"]


def test_damage_of_older_checkpoints_is_told_and_cut_deletions_are_finished(finished, copied):
    flip_bit(largest_file(copied / "checkpoints" / "10" / "training"))
    with pytest.warns(UserWarning, match="checkpoint 10 cannot be read .* continuing from checkpoint 20, which is who"):
        train_again(copied)
    assert checkpoints(copied) == ["20", "unreadable-10"]
    shutil.copytree(finished[0] / "checkpoints" / "10", copied / "checkpoints" / "10")
    largest_file(copied / "checkpoints" / "10" / "model").unlink()
    assert_same(finished, train_again(copied), copied)
    assert checkpoints(copied) == ["20", "unreadable-10"]


def test_an_evaluation_needs_the_model_alone(finished, copied):
    flip_bit(largest_file(copied / "checkpoints" / "20" / "training"))
    variables, step = load_variables(copied, "last")
    assert step == 20
    chex.assert_trees_all_equal(variables["params"], finished[1].state.ema_params.tree)


KILLED = """
import os, signal, sys
from hfsgm_jax import run_folder
from tiny_training import tiny_config, train_tiny
checksum_of, listed = run_folder.checksum_of, set()

def killed(path):
    listed.update(part for part in path.parts if part.startswith("20."))
    if listed:  # all is written, and the folder does not have its name yet
        os.kill(os.getpid(), signal.SIGKILL)
    return checksum_of(path)

run_folder.checksum_of = killed
train_tiny(tiny_config(optimizer__ema=0.99), sys.argv[1])
"""
# No file may grow beyond 4 kB, which those of a checkpoint do: the writers in C++ get the error of the system.
FULL = """
import resource, sys
from absl import logging
from tiny_training import tiny_config, train_tiny
from hfsgm_jax.training import StorageError
from hfsgm_jax.training.checkpoint import Checkpoints
logging.set_verbosity(logging.WARNING)
save = Checkpoints.save

def full(self, state, *args):
    if int(state.step) == 20:
        self.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    save(self, state, *args)

Checkpoints.save = full
try:
    train_tiny(tiny_config(optimizer__ema=0.99), sys.argv[1])
except StorageError as error:
    print(error)
    sys.exit(1)
"""


def run_program(program, workdir):
    command = [sys.executable, "-c", program, str(workdir)]
    return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)


def test_killed_while_saving_resumes_to_the_same_bits(finished, tmp_path):
    assert run_program(KILLED, tmp_path).returncode == -9
    first, second = checkpoints(tmp_path)
    assert first == "10" and second.startswith("20.")
    assert_same(finished, train_again(tmp_path), tmp_path)
    assert checkpoints(tmp_path) == ["10", "20"]


def test_a_disk_that_is_full_for_a_checkpoint_leaves_the_one_before(finished, tmp_path):
    result = run_program(FULL, tmp_path)
    assert result.returncode == 1, result.stderr
    assert "File too large, writing " in result.stdout
    assert "continues from checkpoint 10, which is whole" in result.stdout
    assert "hfsgm_jax/" not in result.stderr  # threads of TensorStore may outlive their event loop
    assert_same(finished, train_again(tmp_path), tmp_path)
    assert checkpoints(tmp_path) == ["10", "20"]


def test_a_disk_that_is_full_for_metrics_is_told(finished, tmp_path, monkeypatch):
    def full(line):
        if line["step"] == 15:
            raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "tb" / "events"))

    with monkeypatch.context() as patch:
        patch.setattr(log, "_event_writer", lambda folder: full)
        with pytest.raises(StorageError, match="No space left on device, writing .*/tb/events: .*checkpoint 10, wh"):
            train_again(tmp_path)
    assert_same(finished, train_again(tmp_path), tmp_path)


def test_errors_that_are_no_full_disk_are_left_alone(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(log, "_event_writer", lambda folder: refused)
    with pytest.raises(PermissionError):
        train_again(tmp_path)


def test_a_run_folder_holds_data_alone(finished):
    folder = finished[0]
    for path in (path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        assert path.suffix not in (".py", ".pkl", ".pickle", ".so") and not data.startswith((b"\x80\x04", b"\x80\x05"))
    assert damage(folder / "checkpoints" / "20") is None
    listed = json.loads((folder / "checkpoints" / "20" / MANIFEST).read_text())
    assert {name.split("/")[0] for name in listed} == {"model", "training", "metrics"}
