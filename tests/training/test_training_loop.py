"""Whole runs: files, resume to the bit, signals, devices, refusals."""

import json
import os
import shutil
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
from tiny_training import tiny_config, train_tiny

from hfsgm_jax.config import ConfigError, load_config
from hfsgm_jax.training import CheckpointError, Checkpoints, NonFiniteError, load_variables, loop
from hfsgm_jax.training.log import drop_metrics_beyond, read_metrics
from hfsgm_jax.training.step import zero_metrics

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
    config = load_config(workdir)
    assert tuple(config.image_shape) == (4, 4, 1) and config.train.steps_per_epoch == 3
    assert list((workdir / "tb").iterdir())
    assert (summary.step, summary.images, summary.ended_by) == (20, 480, "steps")
    assert summary.best[1] == min(line["val/nelbo"] for line in lines if "val/nelbo" in line)


def test_variables_of_a_finished_run(finished):
    workdir, summary = finished
    for step in ("best", "last", 20):
        variables, number = load_variables(workdir, step)
        assert number == 20
        chex.assert_trees_all_equal(variables["params"], summary.state.params)
    with pytest.raises(CheckpointError, match="no checkpoint 7"):
        load_variables(workdir, 7)
    with pytest.raises(CheckpointError, match="no checkpoints yet"):
        load_variables(workdir / "tb")


def test_a_finished_run_has_nothing_left_to_do(finished):
    workdir, summary = finished
    before = (workdir / "metrics.jsonl").read_bytes()
    again = train_tiny(tiny_config(), workdir)
    chex.assert_trees_all_equal(again.state, summary.state)
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_another_config_is_refused(finished):
    workdir, _ = finished
    with pytest.raises(ConfigError, match=r"data.set_size: 3 there, 4 now\n  optimizer.learning_rate: 0.01 there, 0.5"):
        train_tiny(tiny_config(data__set_size=4, optimizer__learning_rate=0.5, train__keep=7), workdir)


def test_killed_and_resumed_equals_uninterrupted_to_the_bit(tmp_path):
    def start():
        # More steps than it will live for: only train.* may differ.
        command = [sys.executable, tiny_training.__file__, str(tmp_path / "cut"), "1000000"]
        return subprocess.Popen(command, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True)

    def wait_for(step, process):
        deadline = time.time() + 60
        while not any(line["step"] >= step for line in read_metrics(tmp_path / "cut")):
            assert process.poll() is None and time.time() < deadline, process.stderr.read()
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

    with Checkpoints(tmp_path / "cut", read_only=True) as checkpoints:
        steps = checkpoints.steps()[-1] // 5 * 5 + 10
    config = tiny_config(train__steps=steps, optimizer__ema=0.99)
    resumed = train_tiny(config, tmp_path / "cut")
    whole = train_tiny(config, tmp_path / "whole")
    assert resumed.step == whole.step == steps
    chex.assert_trees_all_equal(resumed.state, whole.state)
    assert resumed.images == whole.images and resumed.best == whole.best
    assert untimed(tmp_path / "cut") == untimed(tmp_path / "whole")


def test_one_device_equals_eight(tmp_path):
    program = f"""
import chex, jax, sys
from tiny_training import tiny_config, train_tiny
kwargs = dict(data__sets_per_batch=16, data__set_size=(2, 4), optimizer__accumulate=2, eval__sets_per_batch=8)
one, eight = (train_tiny(tiny_config(train__devices=n, **kwargs), f"{tmp_path}/{{n}}") for n in (1, 8))
assert jax.tree.leaves(eight.state.params)[0].sharding.num_devices == 8
# Sums over the batch are taken in another order: float32 rounding, magnified by Adam over 20 steps.
chex.assert_trees_all_close(jax.device_get(one.state.params), jax.device_get(eight.state.params), atol=2e-5)
assert abs(one.best[1] - eight.best[1]) < 1e-4, (one.best, eight.best)
# A checkpoint of eight devices continues on two.
more = train_tiny(tiny_config(train__devices=2, train__steps=30, **kwargs), f"{tmp_path}/8")
assert more.step == 30
"""
    flags = "--xla_force_host_platform_device_count=8"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment(XLA_FLAGS=flags), capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_an_unreadable_latest_checkpoint_falls_back(finished, tmp_path):
    config, expected = tiny_config(), finished[1]
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    for file in (tmp_path / "checkpoints" / "20" / "training").rglob("*"):
        if file.is_file():
            file.write_bytes(b"broken")
    with pytest.warns(UserWarning, match="checkpoint 20 cannot be read .* continuing from checkpoint 10"):
        again = train_tiny(config, tmp_path)
    chex.assert_trees_all_equal(again.state, expected.state)
    assert [line["step"] for line in read_metrics(tmp_path)] == [5, 10, 15, 20]
    for step in ("10", "20"):
        (tmp_path / "checkpoints" / step / "progress" / "metadata").write_text("{")
    with pytest.raises(CheckpointError, match=r"none of the checkpoints \[10, 20\]"):
        train_tiny(config, tmp_path)
    assert {"10", "20", "unreadable-20"} <= {path.name for path in (tmp_path / "checkpoints").iterdir()}


def test_the_best_checkpoint_survives(finished, tmp_path):
    state, metrics = finished[1].state, zero_metrics()
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        for step, nelbo in ((10, 5.0), (20, 3.0), (30, None), (40, float("nan")), (50, 4.0)):
            checkpoints.save(state.replace(step=jnp.int32(step)), metrics, dict(step=step), nelbo)
        checkpoints.wait()
        assert checkpoints.steps() == [20, 50] and checkpoints.best() == (20, 3.0)
    assert load_variables(tmp_path, "best")[1] == 20 and load_variables(tmp_path, "last")[1] == 50


def test_too_many_non_finite_steps_end_the_run(tmp_path):
    with pytest.raises(NonFiniteError, match="3 steps in a row, from step 0"):
        train_tiny(tiny_config(train__max_skipped=3), tmp_path, poison=True)
    assert not (tmp_path / "checkpoints" / "10").exists()


def test_a_time_budget_evaluates_and_saves(tmp_path):
    summary = train_tiny(tiny_config(train__steps=10**6, train__minutes=1e-6), tmp_path)
    assert (summary.ended_by, summary.step) == ("minutes", 1)
    assert "val/nelbo" in read_metrics(tmp_path)[-1] and load_variables(tmp_path, "last")[1] == 1


def test_metrics_beyond_the_checkpoint_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 5, "a": 1}\n{"step": 10}\n{"step": 15}\n{"step": 2')
    drop_metrics_beyond(tmp_path, 10)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"step": 5, "a": 1}, {"step": 10}]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_pictures_are_drawn_and_not_timed(tmp_path, monkeypatch):
    from hfsgm_jax.evaluation import pictures

    calls = []
    monkeypatch.setattr(
        pictures, "write_sample_grids", lambda model, variables, sets, key, folder, step: calls.append((folder, step))
    )
    train_tiny(tiny_config(train__sample_every=15), tmp_path)
    assert calls == [(tmp_path / "samples", 15), (tmp_path / "samples", 20)]


def test_rows_that_do_not_divide_are_refused():
    mesh = loop.mesh_lib.make_mesh(1)
    with pytest.raises(ConfigError, match=r"data.sets_per_batch \(9\).*1 x 2 = 2"):
        loop.mesh_lib.check_rows(mesh, 9, 2)
    with pytest.raises(ConfigError, match="train.devices is 1000"):
        loop.mesh_lib.make_mesh(1000)


def test_validation_ignores_the_filled_up_rows(tmp_path):
    mesh = loop.mesh_lib.make_mesh(1)
    values = []
    batch = loop.data.fixed_sets(tiny_training.tiny_dataset(1), 3, 10, 0)
    setup = tiny_training.make_setup(tiny_config(), mesh, noise=0.0)
    for rows in (10, 4):  # 10 sets fill one batch, or leave half of the third one empty
        config = tiny_config(eval__sets_per_batch=rows)
        validate = loop.make_validation(tiny_training.TinyModel(noise=0.0), config, batch, mesh)
        values.append(validate(setup.state.eval_variables))
    np.testing.assert_allclose(list(values[0].values()), list(values[1].values()), rtol=1e-5)
    assert jax.tree.all(jax.tree.map(np.isfinite, values[0]))
