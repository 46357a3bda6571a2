"""A user's own arrays as a data set, and its use in place of a source."""

import numpy as np
import pytest

from hfsgm_jax.data import SOURCES, Dataset, SetSpec, fixed_sets, load_dataset, sample_sets
from hfsgm_jax.errors import DataError


def arrays(num_classes=10, num_images=6, shape=(12, 12, 3)):
    labels = np.repeat(np.arange(num_classes), num_images)
    images = np.random.default_rng(0).integers(0, 256, (len(labels), *shape), np.uint8)
    order = np.random.default_rng(1).permutation(len(labels))
    return images[order], labels[order]


def test_arrays_in_any_order_are_grouped_by_class():
    images, labels = arrays()
    names = np.array([f"name{label}" for label in labels])
    dataset = Dataset.from_arrays(images, names, groups=labels // 5, parts=labels % 3, info={"note": 1})
    assert dataset.info == {"note": 1, "class_names": [f"name{k}" for k in range(10)]}
    assert dataset.image_shape == (12, 12, 3) and (dataset.size == 6).all()
    for k in range(10):
        np.testing.assert_array_equal(dataset.images[6 * k : 6 * k + 6], images[labels == k])  # in the given order
    np.testing.assert_array_equal(dataset.group, np.arange(10) // 5)
    np.testing.assert_array_equal(dataset.part, np.arange(10) % 3)
    some = dataset.select([7, 2])
    assert some.info["class_names"] == ["name7", "name2"] and some.label.tolist() == [7, 2]
    np.testing.assert_array_equal(some.images, np.concatenate([images[labels == 7], images[labels == 2]]))


def test_pixels_of_all_kinds():
    labels = np.arange(3)
    grey = np.array([0, 51, 255], np.uint8)[:, None, None] + np.zeros((3, 4, 4), np.uint8)
    expected = Dataset.from_arrays(grey, labels).images
    assert expected.shape == (3, 4, 4, 1) and expected.dtype == np.uint8
    for same in (grey[..., None], grey.astype(int), grey / 255, (grey / 255).astype(np.float32)):
        np.testing.assert_array_equal(Dataset.from_arrays(same, labels).images, expected)
    for same in (grey > 100, (grey > 100).astype(np.uint8), (grey > 100).astype(int)):
        dataset = Dataset.from_arrays(same, labels)
        np.testing.assert_array_equal(dataset.images, 255 * (expected > 100))
        assert dataset.binary
    numbers = np.linspace(-3, 3, 3, dtype=np.float32).reshape(3, 1, 1, 1)
    dataset = Dataset.from_arrays(numbers, labels)
    np.testing.assert_array_equal(dataset.images, numbers)
    np.testing.assert_array_equal(np.sort(fixed_sets(dataset, 1, 0, 0, "none").images.ravel()), numbers.ravel())
    with pytest.raises(DataError, match="8-bit"):
        fixed_sets(dataset, 1, 0, 0, "dynamic")


@pytest.mark.parametrize(
    "changed, message",
    [
        (dict(images=np.zeros((60, 28, 28)) + 2), "must lie in"),
        (dict(images=np.full((60, 28, 28), np.nan)), "must lie in"),
        (dict(images=np.zeros((60, 28, 28), complex)), "not complex"),
        (dict(images=np.zeros((59, 28, 28))), "do not fit"),
        (dict(images=np.zeros((60, 28))), "do not fit"),
        (dict(images=np.zeros((0, 28, 28)), labels=[]), "no images"),
        (dict(groups=np.zeros(3)), "one for every image"),
        (dict(groups=np.arange(60)), "several groups"),
        (dict(parts=np.arange(60)), "parts are 0"),
        (dict(parts=np.arange(60) % 3), "several parts"),
    ],
)
def test_bad_arrays_are_refused(changed, message):
    given = {"images": np.zeros((60, 28, 28), np.uint8), "labels": np.repeat(np.arange(10), 6), **changed}
    with pytest.raises(DataError, match=message):
        Dataset.from_arrays(**given)


def test_own_data_take_the_place_of_a_source(config):
    images, labels = arrays()
    config.update(source="arrays", binarize="none", set_size=3)
    own = Dataset.from_arrays(images, labels)
    parts = {split: load_dataset(config, split, dataset=own) for split in ("train", "val", "test")}
    assert [part.num_classes for part in parts.values()] == [7, 1, 2]  # at random, whatever data.split is
    assert parts["train"].info["source"] == "arrays" and parts["train"].info["scheme"] == "random"
    assert parts["train"].info["class_names"] == [str(label) for label in parts["train"].label]
    sets = sample_sets(parts["train"].table(), 0 * np.zeros(2, np.uint32), SetSpec.from_config(config))
    assert sets.images.shape == (16, 3, 12, 12, 3)
    config.split = "official"
    with_parts = Dataset.from_arrays(images, labels, parts=labels % 3)
    assert load_dataset(config, "test", dataset=with_parts).label.tolist() == [2, 5, 8]
    with pytest.raises(DataError, match="give it as `dataset`"):
        load_dataset(config, "train")


def test_a_function_is_a_source(config, monkeypatch):
    monkeypatch.setitem(SOURCES, "mine", lambda config: Dataset.from_arrays(*arrays(), info={"seed": config.seed}))
    config.update(source="mine", seed=4, set_size=3)
    train = load_dataset(config, "train")
    assert train.num_classes == 7 and train.info["seed"] == 4 and train.info["source"] == "mine"
    config.update(source="strokes", split="back_eval")
    assert load_dataset(config, "test", source="mine").num_classes == 2
