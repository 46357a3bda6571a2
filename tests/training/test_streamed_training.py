"""Training on images that are read while it runs."""

import chex
import numpy as np
import pytest
from tiny_training import SHAPE, tiny_config, tiny_dataset, train_tiny

from hfsgm_jax.data import Dataset, StreamedImages
from hfsgm_jax.errors import ConfigError
from hfsgm_jax.run_folder import read_metrics


@pytest.fixture
def counts():
    """The numbers of images read together from `streamed`."""
    return []


@pytest.fixture
def streamed(counts):
    """The tiny data set, read when it is indexed; in two groups."""
    held = tiny_dataset()

    def read(position):
        counts.append(len(position))
        return held.images[position]

    images = StreamedImages(read, np.arange(len(held.images)), SHAPE)
    labels = np.repeat(held.label, held.size)
    return Dataset.from_arrays(images, labels, groups=labels % 2)


def test_resumes_to_the_bit(streamed, counts, tmp_path):
    config = tiny_config(train__steps=10, train__save_every=5, train__devices=2)
    whole = train_tiny(config, tmp_path / "whole", streamed)
    assert whole.state.step == 10 and whole.state.images == 10 * 24
    assert max(counts) <= 30  # a set, or those of the validation: never all of them
    for steps in (5, 10):
        config.train.steps = steps
        parts = train_tiny(config, tmp_path / "parts", streamed)
    chex.assert_trees_all_equal(whole.state, parts.state)
    assert whole.best == parts.best


def test_trains_as_on_data_in_memory(streamed, tmp_path):
    found = train_tiny(tiny_config(), tmp_path / "streamed", streamed)
    # Validation sets of streamed images are binarised image by image: the states alone are the same.
    chex.assert_trees_all_equal(found.state, train_tiny(tiny_config(), tmp_path / "held").state)


def test_trains_with_groups_and_targets_apart(streamed, counts, tmp_path):
    """The images of groups and targets are read too, and the objective is validated on such sets."""
    config = tiny_config(data__group_size=2, objective__name="vhe", objective__targets=1)
    summary = train_tiny(config, tmp_path, streamed)
    assert summary.state.step == 20 and summary.state.images == 20 * 8
    assert 3 + 2 + 1 in counts  # a row of a batch
    assert all(np.isfinite(line["val/objective"]) for line in read_metrics(tmp_path) if "val/objective" in line)


def test_several_steps_per_dispatch_are_refused(streamed, tmp_path):
    with pytest.raises(ConfigError, match="data.stream=True.*steps_per_dispatch is 1, not 5"):
        train_tiny(tiny_config(train__steps_per_dispatch=5), tmp_path / "run", streamed)
    assert not (tmp_path / "run").exists()
