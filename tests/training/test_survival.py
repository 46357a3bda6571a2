"""What a run survives: damaged checkpoints and logs, a full disk, kills while saving, clocks that jump."""

import errno
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import chex
import numpy as np
import pytest
from test_training_loop import ROOT, environment, untimed
from tiny_training import tiny_config, train_tiny

from hfsgm_jax.training import CheckpointError, StorageError, checkpoint, integrity, load_variables, storage
from hfsgm_jax.training.log import lost_lines, read_metrics


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of 20 steps with averaged parameters, not to be changed."""
    workdir = tmp_path_factory.mktemp("run")
    return workdir, train_tiny(tiny_config(optimizer__ema=0.99), workdir)


@pytest.fixture
def copied(finished, tmp_path):
    return Path(shutil.copytree(finished[0], tmp_path / "run"))


def train_again(workdir):
    return train_tiny(tiny_config(optimizer__ema=0.99), workdir)


def largest_file(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize(
    "item, damage, reason",
    [
        ("model", flip_bit, "does not have the bytes that were written"),
        ("training", truncate, "bytes, and .* were written"),
        ("progress", flip_bit, "does not have the bytes"),  # Orbax reads another number here without complaint
        ("metrics", truncate, "bytes, and"),  # Orbax cannot even list the checkpoints then
        ("training", Path.unlink, "is missing"),
    ],
)
def test_a_damaged_latest_checkpoint_falls_back_to_the_same_bits(finished, copied, item, damage, reason):
    damage(largest_file(copied / "checkpoints" / "20" / item))
    expected = rf"checkpoint 20 cannot be read \({item}/.*{reason}.*from checkpoint 10: steps 11 to 20 are done again"
    with pytest.warns(UserWarning, match=expected):
        again = train_again(copied)
    chex.assert_trees_all_equal(again.state, finished[1].state)
    assert again.best == finished[1].best and untimed(copied) == untimed(finished[0])
    assert sorted(p.name for p in (copied / "checkpoints").iterdir()) == ["10", "20", "unreadable-20"]


def test_damage_of_all_checkpoints_is_an_error_and_changes_nothing(copied):
    for step in ("10", "20"):
        flip_bit(largest_file(copied / "checkpoints" / step / "model"))
    with pytest.raises(CheckpointError, match=r"none of the checkpoints \[10, 20\].*model/"):
        train_again(copied)
    with pytest.raises(CheckpointError, match="checkpoint 10 .*model/.* does not have the bytes"):
        load_variables(copied, 10)
    assert sorted(p.name for p in (copied / "checkpoints").iterdir()) == ["10", "20"]


def test_an_evaluation_needs_the_model_alone(finished, copied):
    flip_bit(largest_file(copied / "checkpoints" / "20" / "training"))
    variables, step = load_variables(copied, "last")
    assert step == 20
    chex.assert_trees_all_equal(variables["params"], finished[1].state.ema_params)


def test_a_deletion_cut_short_and_a_checkpoint_without_a_list_are_no_damage(finished, copied, recwarn):
    largest_file(copied / "checkpoints" / "10" / "model").unlink()
    (copied / "checkpoints" / "20" / integrity.MANIFEST).unlink()
    chex.assert_trees_all_equal(train_again(copied).state, finished[1].state)
    assert not [w for w in recwarn if "cannot be read" in str(w.message)]
    assert sorted(p.name for p in (copied / "checkpoints").iterdir()) == ["10", "20"]


@pytest.mark.parametrize("step", ["10", "20"])
@pytest.mark.parametrize("content", ['{"model/', "[1, 2]"])
def test_a_damaged_list_of_files_is_damage(finished, copied, step, content):
    (copied / "checkpoints" / step / integrity.MANIFEST).write_text(content)
    with pytest.warns(UserWarning, match=rf"checkpoint {step} cannot be read \({integrity.MANIFEST}: "):
        again = train_again(copied)
    chex.assert_trees_all_equal(again.state, finished[1].state)
    left = sorted(p.name for p in (copied / "checkpoints").iterdir())
    assert left == (["20", "unreadable-10"] if step == "10" else ["10", "20", "unreadable-20"])


def test_two_damaged_checkpoints_of_one_step_are_both_kept(finished, copied):
    for expected in (["10", "20", "unreadable-20"], ["10", "20", "unreadable-20", "unreadable-20-2"]):
        truncate(largest_file(copied / "checkpoints" / "20" / "model"))
        with pytest.warns(UserWarning, match="checkpoint 20 cannot be read"):
            train_again(copied)
        assert sorted(p.name for p in (copied / "checkpoints").iterdir()) == expected


def cut(workdir):
    """Takes the run back to step 10, with what it had logged until 20."""
    shutil.rmtree(workdir / "checkpoints" / "20")


@pytest.mark.parametrize("before", ["gone", "shortened", "a line overwritten", "cut short"])
def test_damaged_metrics_are_told_and_training_goes_on(finished, copied, capfd, before):
    cut(copied)
    path, lines = copied / "metrics.jsonl", (copied / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    if before == "gone":
        path.unlink()
        kept, said = [15, 20], "metrics.jsonl is not what was written: it is gone"
    elif before == "shortened":
        path.write_bytes(lines[0])
        kept, said = [5, 15, 20], "its lines of steps 6 to 10 are gone"
    elif before == "a line overwritten":
        path.write_bytes(b"\xff{]\n" + b"".join(lines[1:]))
        kept, said = [10, 15, 20], "1 of its lines cannot be read"
    else:  # what a kill leaves, of steps that are done again: nothing is lost
        path.write_bytes(b"".join(lines[:2]) + lines[2][:-9])
        kept, said = [5, 10, 15, 20], None
    again = train_again(copied)
    chex.assert_trees_all_equal(again.state, finished[1].state)
    assert [line["step"] for line in read_metrics(copied)] == kept
    assert untimed(copied) == [line for line in untimed(finished[0]) if line["step"] in kept]
    output = capfd.readouterr().err
    assert (said in output) if said else ("not what was written" not in output)
    assert lost_lines(copied, 20, 0) is None


def test_metrics_deleted_while_training_begin_anew(tmp_path, capfd, monkeypatch):
    from hfsgm_jax.training import loop

    line = loop._line

    def delete_before_15(run, programs):
        if run.step == 15:
            (tmp_path / "metrics.jsonl").unlink()
        return line(run, programs)

    monkeypatch.setattr(loop, "_line", delete_before_15)
    train_again(tmp_path)
    assert [line["step"] for line in read_metrics(tmp_path)] == [15, 20]
    assert "metrics.jsonl is gone: its lines up to step 10 are lost" in capfd.readouterr().err


def test_clocks_that_jump_change_nothing(finished, tmp_path, monkeypatch):
    jumps, now, write = [], time.time, integrity.write_manifest

    def write_and_jump(folder):
        write(folder)
        jumps.append(-1e6 if len(jumps) % 2 else 2e6)  # by weeks, to the past and to the future, while saving

    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now() + sum(jumps))
        patch.setattr(integrity, "write_manifest", write_and_jump)
        half = train_tiny(tiny_config(optimizer__ema=0.99, train__steps=10), tmp_path)
        summary = train_again(tmp_path)
    assert len(jumps) == 2 and 0 < half.seconds < summary.seconds < 600
    chex.assert_trees_all_equal(summary.state, finished[1].state)
    assert untimed(tmp_path) == untimed(finished[0])
    seconds = [line["seconds"] for line in read_metrics(tmp_path)]
    assert seconds == sorted(seconds)


KILLED = """
import os, signal, sys
from hfsgm_jax.training import integrity
from tiny_training import tiny_config, train_tiny
write, saves = integrity.write_manifest, []

def killed(folder):
    saves.append(folder)
    if len(saves) == 2:  # all is written, and the folder does not have its name yet
        os.kill(os.getpid(), signal.SIGKILL)
    write(folder)

integrity.write_manifest = killed
train_tiny(tiny_config(optimizer__ema=0.99), sys.argv[1])
"""


def run_program(program, *arguments):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)


def test_killed_while_saving_resumes_to_the_same_bits(finished, tmp_path):
    assert run_program(KILLED, tmp_path).returncode == -9
    left = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert left[0] == "10" and left[1].startswith("20.") and len(left) == 2
    again = train_again(tmp_path)
    chex.assert_trees_all_equal(again.state, finished[1].state)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["10", "20"]
    assert untimed(tmp_path) == untimed(finished[0])


# No file may grow beyond 4 kB, which those of a checkpoint do: the writers in C++ get the error of the system.
FULL = """
import resource, signal, sys
from absl import logging
from tiny_training import tiny_config, train_tiny
from hfsgm_jax.training import Checkpoints, StorageError
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


def test_a_disk_that_is_full_for_a_checkpoint_leaves_the_one_before(finished, tmp_path):
    result = run_program(FULL, tmp_path)
    assert result.returncode == 1, result.stderr
    assert "checkpoint 20 could not be saved (File too large; " in result.stdout
    assert "MB free" in result.stdout and "continues from checkpoint 10, which is whole" in result.stdout
    assert "orbax" not in result.stderr.replace("orbax-checkpoint-tmp", "")  # no traceback of its threads
    again = train_again(tmp_path)
    chex.assert_trees_all_equal(again.state, finished[1].state)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["10", "20"]
    assert untimed(tmp_path) == untimed(finished[0])


def test_a_disk_that_is_full_for_metrics_is_told(finished, tmp_path, monkeypatch):
    from hfsgm_jax.training.events import Events

    def full(self, line, wall_time):
        if line["step"] == 15:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Events, "write", full)
        with pytest.raises(StorageError, match="No space left on device .*MB free.*from checkpoint 10, which is"):
            train_again(tmp_path)
    chex.assert_trees_all_equal(train_again(tmp_path).state, finished[1].state)
    assert untimed(tmp_path) == untimed(finished[0])


def test_a_disk_that_is_full_from_the_start_is_told(tmp_path):
    @storage.explains_full_disk
    def full(config, workdir):
        raise OSError(errno.ENOSPC, "No space left on device", config)

    with pytest.raises(StorageError, match=rf"device \(.* MB free on the file system of {tmp_path}\): .* begins anew"):
        full(None, tmp_path / "not" / "there")
    (tmp_path / "cache").mkdir()
    with pytest.raises(StorageError, match=rf"writing {tmp_path}/cache/x .*of {tmp_path}/cache\)"):
        full(str(tmp_path / "cache" / "x"), tmp_path / "not" / "there")


def test_an_error_that_is_no_full_disk_is_left_alone(tmp_path, monkeypatch):
    from hfsgm_jax.training.events import Events

    def refused(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Events, "write", refused)
    with pytest.raises(PermissionError):
        train_again(tmp_path)


def test_events_are_on_disk_after_each_line(finished, tmp_path):
    from hfsgm_jax.training.events import Events

    events = Events(tmp_path, 0)
    (file,) = tmp_path.iterdir()
    events.write(dict(step=5, value=1.5), 0.0)
    assert b"value" in file.read_bytes()
    events.close()


def test_the_best_is_known_where_a_validation_cannot_be_read(copied):
    assert checkpoint._best(copied / "checkpoints")[0] == 20
    (copied / "checkpoints" / "20" / "metrics" / "metrics").write_text("{")
    assert checkpoint._best(copied / "checkpoints")[0] == 10


def test_a_run_folder_holds_data_alone(finished):
    folder = finished[0]
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        data = path.read_bytes()
        assert path.suffix not in (".py", ".pkl", ".pickle", ".so") and not data.startswith((b"\x80\x04", b"\x80\x05"))
    manifest = json.loads((folder / "checkpoints" / "20" / integrity.MANIFEST).read_text())
    assert integrity.damage(folder / "checkpoints" / "20") is None
    assert {name.split("/")[0] for name in manifest} == {"model", "training", "progress", "metrics"}
    sizes = np.array([size for size, _ in manifest.values()])
    assert (sizes > 0).any()
