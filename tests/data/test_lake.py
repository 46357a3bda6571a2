"""Lake's within-alphabet runs, against the recorded images."""

import numpy as np
import pytest

from hfsgm_jax.data import fixed_sets, lake_runs, load_dataset
from hfsgm_jax.errors import DataError


@pytest.fixture(scope="module")
def runs(real_data):
    path = real_data / "npz" / "omniglot_one_shot_runs.npz"
    if not path.is_file():
        pytest.skip(f"no recorded runs at {path}")
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture
def omniglot(config, real_data):
    config.update(source="omniglot", split="back_eval", resize="gmn", data_dir=str(real_data / "tfds"))
    return config


def test_the_images_are_the_recorded_ones(omniglot, runs):
    test = load_dataset(omniglot, "test")
    support, query, label = lake_runs(test)
    index = np.floor(3.75 * np.arange(28)).astype(int)
    for images, name in ((support, "train_images"), (query, "test_images")):
        ink = ~runs[name][:, :, index][:, :, :, index]
        np.testing.assert_array_equal(images, ink[..., None].astype(np.float32))
        assert images.dtype == np.float32
    np.testing.assert_array_equal(label, runs["answer"])
    np.testing.assert_array_equal(np.sort(label), np.tile(np.arange(20), (20, 1)))
    group = test.group[np.searchsorted(test.label, runs["train_character_ids"] - 1)]
    assert (group == group[:, :1]).all()  # within one alphabet


def test_grey_images_are_those_of_fixed_sets(omniglot):
    test = load_dataset(omniglot, "test")
    test.images = test.images // 2  # grey ink, as of `box`, which takes long to make
    known = {image.tobytes() for image in fixed_sets(test, 20, 0, 3).images.reshape(-1, 28 * 28)}
    query = lake_runs(test, seed=3)[1]
    assert all(image.tobytes() in known for image in query[[0, 19]].reshape(-1, 28 * 28))
    grey = lake_runs(test, binarize="none")[1]
    assert 0 < ((grey > 0) & (grey < 1)).mean() and ((0 <= grey) & (grey <= 1)).all()


def test_data_without_all_characters_are_refused(omniglot, write_npz):
    omniglot.split = "ns"
    with pytest.raises(DataError, match="'test'.*'ns'.*lacks characters.*back_eval"):
        lake_runs(load_dataset(omniglot, "test"))
    omniglot.update(source="npz", split="random", resize="box", path=write_npz(), set_size=3)
    with pytest.raises(DataError, match="of 'npz' lacks.*omniglot"):
        lake_runs(load_dataset(omniglot, "test"))
