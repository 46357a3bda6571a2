"""Training on images that are read while it runs."""

import dataclasses

import chex
import numpy as np
import pytest
import tiny_training
from tiny_training import tiny_config, train_tiny

from hfsgm_jax.config import ConfigError
from hfsgm_jax.data import StreamedImages
from hfsgm_jax.training.log import read_metrics

held = tiny_training.tiny_dataset


@dataclasses.dataclass(frozen=True)
class OnDisk:
    """What `StreamedImages` reads from; counts the images read."""

    images: np.ndarray
    counts: list

    def __len__(self):
        return len(self.images)

    def take(self, index):
        self.counts.append(len(index))
        return list(self.images[index])

    def subset(self, index):
        return OnDisk(self.images[index], self.counts)


@pytest.fixture
def counts(monkeypatch):
    """Makes the tiny data streamed; the numbers of images read together."""
    counts = []

    def streamed(seed=0, **options):
        dataset = held(seed, **options)
        return dataclasses.replace(dataset, images=StreamedImages(OnDisk(dataset.images, counts), "box", 4, 1))

    monkeypatch.setattr(tiny_training, "tiny_dataset", streamed)
    return counts


def test_resumes_to_the_bit(counts, tmp_path):
    config = tiny_config(data__stream=True, train__steps=10, train__save_every=5, train__devices=2)
    whole = train_tiny(config, tmp_path / "whole")
    assert whole.step == 10 and whole.images == 10 * 24
    assert max(counts) <= 30  # a set, or those of the validation: never all of them
    config.train.steps = 5
    train_tiny(config, tmp_path / "parts")
    config.train.steps = 10
    parts = train_tiny(config, tmp_path / "parts")
    chex.assert_trees_all_equal(whole.state, parts.state)
    assert whole.best == parts.best and whole.images == parts.images


def test_trains_as_on_data_in_memory(counts, tmp_path, monkeypatch):
    streamed = train_tiny(tiny_config(data__stream=True), tmp_path / "streamed")
    monkeypatch.setattr(tiny_training, "tiny_dataset", held)
    # Validation sets of streamed images are binarised image by image: the states alone are the same.
    in_memory = train_tiny(tiny_config(), tmp_path / "held")
    chex.assert_trees_all_equal(streamed.state, in_memory.state)


def test_trains_with_groups_and_targets_apart(counts, tmp_path):
    """The images of groups and targets are read too, and the objective is validated on such sets."""
    keys = dict(data__stream=True, data__source="omniglot", data__group_size=2, model__name="hierarchical_vhe")
    summary = train_tiny(tiny_config(**keys, objective__name="vhe", objective__targets=1), tmp_path)
    assert summary.step == 20 and summary.images == 20 * 8
    assert 3 + 2 + 1 in counts  # a row of a batch
    assert all(np.isfinite(line["val/objective"]) for line in read_metrics(tmp_path) if "val/objective" in line)


def test_several_steps_per_dispatch_are_refused(tmp_path):
    config = tiny_config(data__stream=True, train__steps_per_dispatch=5)
    with pytest.raises(ConfigError, match="data.stream=True.*steps_per_dispatch is 5.*data.stream=False"):
        train_tiny(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
