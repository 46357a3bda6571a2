"""Lake's within-alphabet runs, against the recorded images."""

import dataclasses

import numpy as np
import pytest

from hfsgm_jax.data import DataError, fixed_sets, lake, lake_runs, load_dataset


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
    config.stream = True  # reads what it needs only; test_tfds has the runs of data in memory
    return config


def test_the_images_are_the_recorded_ones(omniglot, runs):
    support, query, answer = lake_runs(load_dataset(omniglot, "test"))
    index = np.floor(3.75 * np.arange(28)).astype(int)
    for images, name in ((support, "train_images"), (query, "test_images")):
        ink = ~runs[name][:, :, index][:, :, :, index]
        np.testing.assert_array_equal(images, ink[..., None].astype(np.float32))
        assert images.dtype == np.float32
    np.testing.assert_array_equal(answer, runs["answer"])
    np.testing.assert_array_equal(np.sort(answer), np.tile(np.arange(20), (20, 1)))


def test_labels_answer_the_queries(omniglot, runs):
    found = lake._load()
    support, query = np.array(found["support_label"]), np.array(found["query_label"])
    np.testing.assert_array_equal(support, runs["train_character_ids"] - 1)
    np.testing.assert_array_equal(np.take_along_axis(support, np.array(found["answer"]), 1), query)
    test = load_dataset(omniglot, "test")
    group = test.group[np.searchsorted(test.label, support)]
    assert (group == group[:, :1]).all()  # within one alphabet


def test_grey_images_are_those_of_fixed_sets(omniglot):
    omniglot.resize = "box"
    test = load_dataset(omniglot, "test")
    batch = fixed_sets(test, 20, 0, 3)
    place = {
        (label, i): image
        for label, *row in zip(batch.label, batch.member, batch.images, strict=True)
        for i, image in zip(*row, strict=True)
    }
    found = lake._load()
    query = lake_runs(test, seed=3)[1]
    for run in (0, 19):
        for label, member, image in zip(found["query_label"][run], found["query_member"][run], query[run], strict=True):
            np.testing.assert_array_equal(image, place[label, member])
    grey = lake_runs(test, binarize="none")[1]
    assert 0 < ((grey > 0) & (grey < 1)).mean() and ((0 <= grey) & (grey <= 1)).all()
    with pytest.raises(DataError, match="binarize"):
        lake_runs(test, binarize="once")


def test_other_sizes_have_the_same_drawings(omniglot):
    small = lake_runs(load_dataset(omniglot, "test"))[0]
    omniglot.update(resize="box", image_size=32, channels=3)
    large = lake_runs(load_dataset(omniglot, "test"), binarize="none")[0]
    assert large.shape == (20, 20, 32, 32, 3)
    mass = np.array([x.reshape(400, -1).mean(1) for x in (small, large)])
    assert np.corrcoef(mass)[0, 1] > 0.9


def test_what_lacks_a_character_or_differs_is_refused(omniglot, write_npz):
    test = load_dataset(omniglot, "test")
    with pytest.raises(DataError, match="not those they were recorded with"):
        lake_runs(dataclasses.replace(test, images=test.images.subset(np.arange(13180)[::-1])))
    few = dataclasses.replace(test, size=test.size - 1)
    with pytest.raises(DataError, match="all 20 images.*19"):
        lake_runs(few)
    omniglot.update(split="ns", resize="box")
    with pytest.raises(DataError, match="characters.*'test'.*'ns'.*back_eval"):
        lake_runs(load_dataset(omniglot, "test"))
    omniglot.update(source="npz", split="random", path=write_npz(), set_size=3, stream=False)
    with pytest.raises(DataError, match="omniglot, not of 'npz'"):
        lake_runs(load_dataset(omniglot, "test"))
