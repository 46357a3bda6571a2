"""Setting up: what does not go together is refused, before data are read where the config alone tells."""

import re
from unittest import mock

import chex
import jax
import numpy as np
import pytest
from tiny_training import TinyModel, setup_tiny, tiny_config, tiny_dataset, train_tiny

from hfsgm_jax import models, objectives, training
from hfsgm_jax.config import default_config
from hfsgm_jax.data import Dataset, cache
from hfsgm_jax.errors import ConfigError, DataError, UserError
from hfsgm_jax.run_folder import load_variables
from hfsgm_jax.training.setup import dry_run
from hfsgm_jax.training.state import start_from


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        ("bns", dict(optimizer__ema=0.9), "model.name='bns' has batch normalisation"),
        ("vae", dict(train__steps_per_dispatch=4), "train.log_every=5"),
        ("vae", dict(data__stream=True), "in memory"),
        ("vae", dict(data__split="ns"), "data.split='ns' is none of source 'strokes'"),
        ("vae", dict(data__source="omniglot", data__resize="gmn", data__image_size=32), "gmn"),
        ("vae", dict(train__devices=1000), "JAX sees"),
    ],
)
def test_refused_before_data_are_read(model, changes, message):
    config = default_config(model)
    config.update(data=dict(split="random"), train=dict(steps=20, log_every=5, eval_every=10, save_every=10))
    for key, value in changes.items():
        section, name = key.split("__")
        config[section][name] = value
    with mock.patch.object(cache, "load", side_effect=AssertionError("read")):
        with pytest.raises(UserError, match=message):
            training.setup(config)


def test_refused_for_the_data():
    with pytest.raises(ConfigError, match="objective.targets=7: the smallest class in training has 6 images"):
        setup_tiny(objective__name="vhe", objective__targets=7)
    with pytest.raises(DataError, match="likelihood is of binary pixels"):
        setup_tiny(data__binarize="none")
    large = Dataset.from_arrays(np.zeros((24, 5, 5), np.uint8), np.repeat(np.arange(8), 3))
    with pytest.raises(ConfigError, match=r"the model is of images \(4, 4, 1\), and the data are \(5, 5, 1\)"):
        setup_tiny(large)


def test_a_model_that_no_memory_holds_is_refused_before_anything_is_written(tmp_path):
    with mock.patch("hfsgm_jax.devices.os.sysconf", return_value=1):  # page
        with pytest.raises(ConfigError, match="take .* GiB, and a device has .* GiB: use a smaller model"):
            train_tiny(tiny_config(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_binary_images_need_no_binarisation():
    images = np.random.default_rng(0).integers(0, 2, (48, 4, 4)).astype(bool)
    s = setup_tiny(Dataset.from_arrays(images, np.repeat(np.arange(12), 4)), data__binarize="none")
    assert set(np.unique(s.fixed_sets.images)) == {0.0, 1.0}


def test_a_constructors_model_is_named_in_the_config():
    config = tiny_config(data__sets_per_batch=4)
    images = np.zeros((36, 28, 28), bool)
    model = models.ns(width=8, encoder_width=4, layers=1, blocks=1, c_channels=2, z_channels=2)
    s = training.setup(config, Dataset.from_arrays(images, np.repeat(np.arange(12), 3)), model)
    assert (s.config.model.name, s.config.model.width, s.config.data.source) == ("ns", 8, "arrays")
    assert models.build_model(s.config.model, (28, 28, 1)) == model


def test_an_objective_from_outside():
    def sums(trace, sets, **settings):
        found = objectives.loss_sums(trace, sets, **settings)
        return found | {"loss": 2 * found["loss"]}

    with mock.patch.dict(objectives.OBJECTIVES, twice=objectives.Objective(sums)):
        s = setup_tiny(objective__name="twice")
        found = s.validate(s.state.variables)
    assert found["val/objective"] == pytest.approx(2 * found["val/nelbo"])


def test_an_own_loop_sees_the_sets_of_a_step():
    s = setup_tiny()
    batch = next(s.batches(0))
    sets = jax.eval_shape(s.sample, *batch)
    assert sets.images.shape == (8, 3, 4, 4, 1) and isinstance(s.model, TinyModel)
    assert s.dataset.num_classes < tiny_dataset().num_classes


@pytest.mark.parametrize("count", [1, 2])
def test_a_dry_run_describes_a_process(count):
    text = dry_run(setup_tiny(train__devices=count))
    assert f"process 0 of 1: {count} of {count} devices (cpu), sets 0 to 7 of 8; a device needs " in text
    state, images, temporaries = map(float, re.findall(r"([\d.]+) MiB", text))
    assert state > images > 0 and temporaries > 0


def test_a_training_starts_from_the_parameters_of_another(tmp_path):
    train_tiny(tiny_config(), tmp_path / "run")
    variables, _ = load_variables(tmp_path / "run")
    state = setup_tiny(train__start=str(tmp_path / "run"), optimizer__ema=0.9).state
    chex.assert_trees_all_equal(state.params.tree, variables["params"])
    chex.assert_trees_all_equal(state.ema_params.tree, variables["params"])

    fresh = setup_tiny().state
    variables["params"]["Dense_0"]["kernel"] = np.zeros((7, 8))
    state = start_from(fresh, variables)
    np.testing.assert_array_equal(state.params.tree["Dense_0"]["kernel"], fresh.params.tree["Dense_0"]["kernel"])
    np.testing.assert_array_equal(state.params.tree["Dense_1"]["kernel"], variables["params"]["Dense_1"]["kernel"])
    with pytest.raises(ConfigError, match="train.start is a model of which no array"):
        start_from(fresh, {"params": {"other": np.zeros(3)}})
    with pytest.raises(ConfigError, match="does not exist, nor is it a model .* did you mean 'omniglot'"):
        _ = setup_tiny(train__start="omniglott").state
