"""Whole runs: files, resume to the bit, signals, devices, refusals."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_training
from tiny_training import TinyModel, tiny_config, train_tiny

from hfsgm_jax import devices
from hfsgm_jax.config import load_config
from hfsgm_jax.errors import CheckpointError, ConfigError
from hfsgm_jax.run_folder import best_checkpoint, load_variables, open_run, read_metrics, saved_steps
from hfsgm_jax.training import NonFiniteError, step
from hfsgm_jax.training.checkpoint import Checkpoints
from hfsgm_jax.training.log import Log, drop_metrics_beyond

ROOT = Path(__file__).resolve().parents[2]
TIMED = ("seconds", "images_per_second", "compile_seconds")


def environment(**more):
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    cache = dict(
        JAX_COMPILATION_CACHE_DIR=jax.config.values["jax_compilation_cache_dir"],
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
        JAX_DISABLE_MOST_OPTIMIZATIONS="1",
    )
    return {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path, **cache, **more}


def untimed(workdir):
    return [{k: v for k, v in line.items() if k not in TIMED} for line in read_metrics(workdir)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of 20 steps, not to be changed."""
    workdir = tmp_path_factory.mktemp("run")
    return workdir, train_tiny(tiny_config(), workdir)


def test_files_of_a_run(finished):
    workdir, summary = finished
    lines = read_metrics(workdir)
    assert [line["step"] for line in lines] == [5, 10, 15, 20]
    assert [line["images"] for line in lines] == [5 * 24, 10 * 24, 15 * 24, 20 * 24]
    expected = {"train/loss", "train/nelbo", "train/log_px", "train/kl_c", "train/kl_z", "images_per_second"}
    expected |= {"seconds", "grad_norm", "skipped", "learning_rate"}
    assert all(expected <= line.keys() for line in lines)
    assert [("val/nelbo" in line, "val/objective" in line) for line in lines] == [(False, False), (True, True)] * 2
    assert "compile_seconds" in lines[0] and "compile_seconds" not in lines[1]
    assert lines[0]["train/nelbo"] > lines[-1]["train/nelbo"]
    line = lines[-1]
    assert line["val/nelbo"] == pytest.approx(line["val/kl_c"] + line["val/kl_z"] - line["val/log_px"], rel=1e-5)
    assert (summary.state.step, summary.state.images, summary.ended_by) == (20, 480, "steps")
    assert summary.best[1] == min(line["val/objective"] for line in lines if "val/objective" in line)
    (events,) = (workdir / "tb").iterdir()
    assert b"val/nelbo" in events.read_bytes()
    config = load_config(workdir)
    assert tuple(config.image_shape) == (4, 4, 1) and config.train.steps_per_epoch > 0


def test_a_run_of_own_data_and_an_own_model_says_so(finished):
    workdir, summary = finished
    config = load_config(workdir)
    assert (config.model.name, config.data.source, config.data.image_size) == ("custom", "arrays", 4)
    opened = open_run(workdir, model=TinyModel())
    assert opened.step == 20
    chex.assert_trees_all_equal(opened.variables["params"], summary.state.params.tree)
    with pytest.raises(ConfigError, match="model="):
        open_run(workdir)


def test_variables_of_a_finished_run(finished):
    workdir, summary = finished
    for name in ("best", "last", 20):
        variables, number = load_variables(workdir, name)
        assert number == 20
        chex.assert_trees_all_equal(variables["params"], summary.state.params.tree)
    with pytest.raises(CheckpointError, match="no checkpoint 7"):
        load_variables(workdir, 7)
    with pytest.raises(CheckpointError, match="no checkpoints yet"):
        load_variables(workdir / "tb")


def test_a_finished_run_has_nothing_left_to_do(finished):
    workdir, summary = finished
    before = (workdir / "metrics.jsonl").read_bytes()
    again = train_tiny(tiny_config(), workdir)
    chex.assert_trees_all_equal(again.state, summary.state)
    assert (again.best, again.ended_by) == (summary.best, "steps")
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_another_config_is_refused(finished):
    workdir, _ = finished
    with pytest.raises(ConfigError, match=r"data.set_size: 3 there, 4 now\n  optimizer.learning_rate: 0.01 there, 0.5"):
        train_tiny(tiny_config(data__set_size=4, optimizer__learning_rate=0.5, train__keep=7), workdir)


def test_killed_and_resumed_equals_uninterrupted_to_the_bit(tmp_path):
    def start():
        # More steps than it will live for: only train.* may differ.
        command = [sys.executable, tiny_training.__file__, "train", str(tmp_path / "cut")]
        command += ["train__steps=1000000", "optimizer__ema=0.99"]
        return subprocess.Popen(command, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True)

    def wait_for(number, process):
        while not any(line["step"] >= number for line in read_metrics(tmp_path / "cut")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)

    first = start()
    wait_for(20, first)
    first.send_signal(signal.SIGKILL)
    first.wait()
    killed_at = read_metrics(tmp_path / "cut")[-1]["step"]

    second = start()
    wait_for(killed_at + 20, second)
    second.send_signal(signal.SIGTERM)
    message = second.communicate()[1]
    assert second.returncode == 143 and "SIGTERM" in message

    stopped_at = saved_steps(tmp_path / "cut" / "checkpoints")[-1]
    config = tiny_config(train__steps=stopped_at // 5 * 5 + 10, optimizer__ema=0.99)
    resumed, whole = (train_tiny(config, tmp_path / name) for name in ("cut", "whole"))
    chex.assert_trees_all_equal(resumed.state, whole.state)
    assert resumed.best == whole.best
    # A line is written where a run is saved, so that every step is counted once, before or after it was stopped.
    lines, others = ({line["step"]: line for line in untimed(tmp_path / name)} for name in ("cut", "whole"))
    assert lines.keys() == others.keys() | {stopped_at}
    changed = {stopped_at, stopped_at // 5 * 5 + 5}
    assert all(lines[number] == others[number] for number in others.keys() - changed)


def test_devices_change_only_the_order_of_sums(tmp_path):
    kwargs = dict(data__sets_per_batch=16, data__set_size=(2, 4), optimizer__accumulate=2, eval__sets_per_batch=8)
    one, eight = (train_tiny(tiny_config(train__devices=n, **kwargs), tmp_path / str(n)) for n in (1, 8))
    assert jax.tree.leaves(eight.state.params)[0].sharding.num_devices == 8
    # float32 rounding, magnified by Adam over 20 steps.
    chex.assert_trees_all_close(*(jax.device_get(run.state.params) for run in (one, eight)), atol=2e-5)
    assert one.best[1] == pytest.approx(eight.best[1], abs=1e-4)
    # A checkpoint of eight devices continues on one.
    more = train_tiny(tiny_config(train__devices=1, train__steps=30, **kwargs), tmp_path / "8")
    assert more.state.step == 30


def test_the_best_checkpoint_survives(finished, tmp_path):
    with Checkpoints(tmp_path, keep=1) as saving:
        for number, score in ((10, 5.0), (20, 3.0), (30, float("nan")), (50, 4.0)):
            saving.save(finished[1].state.replace(step=jnp.int32(number)), 1.0, score)
    folder = tmp_path / "checkpoints"
    assert saved_steps(folder) == [20, 50] and best_checkpoint(folder) == (20, 3.0)
    assert load_variables(tmp_path, "best")[1] == 20 and load_variables(tmp_path, "last")[1] == 50


def test_too_many_non_finite_steps_end_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(step, "MAX_SKIPPED", 3)
    with pytest.raises(NonFiniteError, match="4 steps in a row, from step 1 on"):
        train_tiny(tiny_config(optimizer__learning_rate=1e38), tmp_path)
    assert not saved_steps(tmp_path / "checkpoints")


def test_a_time_budget_validates_and_saves_and_best_is_by_the_objective(tmp_path):
    changes = dict(objective__name="rescale", optimizer__schedule="plateau", train__eval_every=1)
    summary = train_tiny(tiny_config(train__steps=10**6, train__minutes=1e-6, **changes), tmp_path)
    assert (summary.ended_by, summary.state.step) == ("minutes", 1)
    line = read_metrics(tmp_path)[-1]
    assert line["val/objective"] < line["val/nelbo"] and load_variables(tmp_path, "last")[1] == 1
    assert summary.best == best_checkpoint(tmp_path / "checkpoints") == (1, line["val/objective"])
    assert summary.state.opt_state.plateau.best_value == np.float32(line["val/objective"])


def test_metrics_beyond_the_checkpoint_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 5, "a": 1}\n\xff{]\n{"step": 10}\n{"step": 15}\n{"step": 2')
    drop_metrics_beyond(tmp_path, 10)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"step": 5, "a": 1}, {"step": 10}]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_pictures_are_drawn(tmp_path, monkeypatch):
    from hfsgm_jax.evaluation import pictures

    calls = []
    monkeypatch.setattr(
        pictures,
        "write_sample_grids",
        lambda model, variables, sets, key, folder, step: calls.append((folder, step)),
    )
    train_tiny(tiny_config(train__sample_every=15), tmp_path)
    assert calls == [(tmp_path / "samples", 15), (tmp_path / "samples", 20)]


def test_rows_that_do_not_divide_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"data.sets_per_batch \(9\).*1 x 2"):
        train_tiny(tiny_config(data__sets_per_batch=9, optimizer__accumulate=2), tmp_path)
    with pytest.raises(ConfigError, match="train.devices is 1000"):
        devices.make_mesh(1000)


@pytest.mark.parametrize("place", ["file", "file/run"])
def test_a_workdir_that_is_a_file_is_refused(place, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=f"--workdir={tmp_path}/{place} cannot be a folder: "):
        train_tiny(tiny_config(), tmp_path / place)


@pytest.mark.parametrize("content", [b"[1, 2]", b"\xff\xfe\x00", b'{"model": 3}'])
def test_a_config_json_that_is_none_is_refused(content, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ConfigError, match="config.json"):
        train_tiny(tiny_config(), tmp_path)
    assert np.array_equal([file.name for file in tmp_path.iterdir()], ["config.json"])


def test_lines_that_nobody_reads_do_not_end_a_run(tmp_path, monkeypatch):
    """`train.py 2>&1 | head`, or a `tee` that the same SIGTERM ends first: the run saves."""

    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    with Log(tmp_path, 0, 10) as log:
        log.say("saved")
