"""Configs: keys, combinations, and the command line."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from tiny_training import tiny_config, tiny_dataset

from hfsgm_jax import data
from hfsgm_jax.config import (
    ConfigError,
    check_config,
    check_keys,
    config_diff,
    dump_config,
    flatten,
    load_config,
    nearest_key,
)
from hfsgm_jax.training import train
from hfsgm_jax.training.prepare import check_range, check_targets, load_data

ROOT = Path(__file__).resolve().parents[2]


def test_config_json_keeps_values_and_types(tmp_path):
    config = tiny_config(data__set_size=(2, 5), data__path="x")
    dump_config(config, tmp_path)
    loaded = load_config(tmp_path)
    assert loaded.data.set_size == (2, 5) and config_diff(config, loaded) == []
    assert {k: type(v) for k, v in flatten(loaded).items()} == {k: type(v) for k, v in flatten(config).items()}


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(ConfigError, match="not the folder of a run"):
        load_config(tmp_path)


def test_unknown_keys_name_the_nearest():
    valid = flatten(tiny_config())
    assert nearest_key("model.widht", valid) == "model.width"
    assert nearest_key("learning_rate", valid) == "optimizer.learning_rate"
    with pytest.raises(ConfigError, match="unknown config key 'train.step'; did you mean 'train.steps'"):
        check_keys(["train.step", "train.steps"], valid)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(train__steps_per_dispatch=4), r"train.log_every \(5\) must be a multiple"),
        (dict(optimizer__accumulate=3), r"data.sets_per_batch \(8\) must divide"),
        (dict(optimizer__name="adan"), "did you mean 'adam'"),
        (dict(optimizer__schedule="step"), "needs optimizer.decay_steps"),
        (dict(optimizer__schedule="plateau", train__eval_every=0), "follows the evaluations"),
        (dict(optimizer__clip_at=0.0), "optimizer.clip_at is 0.0"),
        (dict(optimizer__ema=1.0), r"in \[0, 1\)"),
        (dict(optimizer__learning_rate=0.0), "above 0"),
        (dict(objective__name="ns", objective__targets=3), "scores the context itself"),
        (dict(objective__name="vhe", objective__targets=0), "at least 1"),
        (dict(objective__name="vhe", model__prior_sees_images=True), "does not see the images"),
        (dict(objective__name="ns", objective__tightened=True), "goes with objective.name=.vhe."),
        (dict(model__likelihood="discretized_normal", data__binarize="dynamic"), "256 grey levels"),
        (dict(objective__name="resample", model__prior_sees_images=True), "does not see the images"),
        (dict(objective__name="vhe", objective__tightened=True, data__copies=20, data__affine=0.1), "data.copies=1"),
        (dict(objective__name="vhe", objective__tightened=True, model__name="vae"), "'vae' has none"),
        (dict(model__name="hierarchical_vhe"), "needs data.group_size, images of the class's group; it is 0"),
        (dict(data__group_size=5), "only model.name='hierarchical_vhe' has latents"),
        (dict(objective__alpha_decay=0.0), "alpha_decay"),
        (dict(train__minutes=-1.0), "time budget"),
        (dict(train__log_every=0), "at least 1"),
    ],
)
def test_impossible_combinations(changes, message):
    with pytest.raises(ConfigError, match=message):
        check_config(tiny_config(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(data__source="mnist", data__split="official", data__group_size=5), "group_size=5 needs classes of sev"),
        (dict(data__source="strokes", data__group_size=5), "use omniglot .alphabets. or npz with `groups`"),
        (dict(data__styles=30, data__style_size=5), "data.channels is 1: use 3"),
        (dict(data__set_size=(3, 2)), "low <= high"),
        (dict(data__resize="gmn"), "105x105"),
        (dict(data__split="ns"), "'ns' is not defined for source 'strokes'"),
    ],
)
def test_data_keys_that_do_not_fit_are_refused_before_anything_is_read(changes, message):
    with mock.patch.object(data, "load_dataset", side_effect=AssertionError("read")):
        with pytest.raises(data.DataError, match=message):
            load_data(tiny_config(**changes))


def test_averaged_parameters_are_refused_before_data_are_loaded(tmp_path):
    """Where the model has batch normalisation."""
    with mock.patch.object(data, "load_dataset", side_effect=AssertionError("read")):
        with pytest.raises(ConfigError, match="model.name='bns' has batch normalisation"):
            train(tiny_config(optimizer__ema=0.9, model__name="bns", data__image_size=28), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_more_targets_than_a_class_has_are_refused():
    config = tiny_config(objective__name="vhe", objective__targets=7)
    with pytest.raises(ConfigError, match="objective.targets=7: the smallest class .* has 6 images"):
        check_targets(config, tiny_dataset())
    check_targets(tiny_config(objective__name="vhe", objective__targets=6), tiny_dataset())


def test_a_bernoulli_likelihood_refuses_grey_pixels():
    config = tiny_config(model__likelihood="bernoulli", data__binarize="none")
    images = np.array([[0, 255], [0, 255]], np.uint8)
    check_range(config, SimpleNamespace(images=images))
    images[0, 0] = 7
    with pytest.raises(ConfigError, match="binary pixels.*grey"):
        check_range(config, SimpleNamespace(images=images))


def test_the_tiny_config_is_fine():
    check_config(tiny_config())


def command(*arguments):
    return subprocess.run(
        [sys.executable, "train.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/base.py", "--config.model.widht=3"], "did you mean 'model.width'?"),
        (["--config=configs/base.py", "--config.model.name=scha"], "scha_vae"),
        (["--config=configs/nothing.py"], "nothing.py"),
        (["--config=configs/base.py", "--config.data.source=omniglott"], "omniglot"),
    ],
)
def test_errors_of_the_command_line_are_one_message(arguments, message, tmp_path):
    result = command(*arguments, f"--workdir={tmp_path / 'run'}")
    assert result.returncode == 2
    assert message in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()
