"""The files of resized images that take the place of tfds and of the raw data."""

import dataclasses
import os
import sys

import numpy as np
import pytest

from hfsgm_jax.data import Dataset, load_dataset, sources, strokes
from hfsgm_jax.errors import DataError
from scripts import cache_data


@pytest.fixture
def omniglot(config, own_cache, monkeypatch):
    """A data section whose Omniglot is of 13 classes in 4 alphabets, 3 drawings each."""
    drawings = np.random.default_rng(0).integers(0, 2, (39, 28, 28, 1), np.uint8) * np.uint8(255)
    labels = np.repeat(np.arange(13), 3)
    tiny = Dataset.from_arrays(drawings, labels, labels % 4, np.where(labels < 10, 0, 2), {"note": "tiny"})
    changes = dict(read=lambda config: tiny, key=lambda config: "tfds-3.0.0-train+test")
    entry = dataclasses.replace(sources.SOURCES["omniglot"], **changes)
    monkeypatch.setitem(sources.SOURCES, "omniglot", entry)
    config.update(source="omniglot", split="back_eval", resize="gmn", set_size=3)
    return config


def test_an_exported_file_is_all_that_is_needed(omniglot, tmp_path, monkeypatch):
    expected = {split: load_dataset(omniglot, split) for split in ("train", "val", "test")}
    (path,) = cache_data.write(omniglot, None, tmp_path / "small")
    monkeypatch.undo()  # neither the raw data nor tfds
    monkeypatch.setenv("HFSGM_CACHE", str(tmp_path / "small"))
    for name in ("tensorflow_datasets", "array_record"):
        monkeypatch.setitem(sys.modules, name, None)
    for split, dataset in expected.items():
        found = load_dataset(omniglot, split)
        assert found.info == dataset.info and found.info["note"] == "tiny"
        np.testing.assert_array_equal(found.images, dataset.images)
        np.testing.assert_array_equal(found.group, dataset.group)
    assert os.listdir(tmp_path / "small") == [os.path.basename(path)]
    monkeypatch.setenv("HFSGM_CACHE", str(tmp_path / "none"))
    with pytest.raises(DataError, match=r"pip install array_record.*scripts.cache_data.*HFSGM_CACHE"):
        load_dataset(omniglot, "train")
    with pytest.raises(DataError, match="'omniglt' is not one of .* did you mean 'omniglot'"):
        cache_data.write(omniglot, ["omniglt"], tmp_path)


def test_damaged_files_are_made_anew(omniglot, own_cache):
    first = load_dataset(omniglot, "test")
    (path,) = own_cache.iterdir()
    content = bytearray(path.read_bytes())
    content[500] ^= 1  # a bit of the images
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="cannot be read.*made anew"):
        assert load_dataset(omniglot, "test").info == first.info
    os.truncate(path, 1000)
    with pytest.warns(UserWarning, match="cannot be read"):
        assert load_dataset(omniglot, "test").info == first.info
    assert load_dataset(omniglot, "test").info == first.info  # and without a warning


def test_an_unwritable_cache_costs_time_only(config, tmp_path, write_npz, monkeypatch):
    (tmp_path / "occupied").write_text("a file where the folder should be")
    monkeypatch.setenv("HFSGM_CACHE", str(tmp_path / "occupied"))
    config.update(source="npz", path=write_npz())
    with pytest.warns(UserWarning, match="cannot be written"):
        assert load_dataset(config, "train").num_classes == 7


def test_second_start_reads_the_cache(config, own_cache, monkeypatch):
    monkeypatch.setattr(strokes, "SPLIT_CLASSES", (6, 2, 2))
    first = load_dataset(config, "train")
    monkeypatch.setattr(strokes, "draw", None)
    second = load_dataset(config, "train")
    np.testing.assert_array_equal(first.images, second.images)
    assert first.info == second.info and len(os.listdir(own_cache)) == 1
    config.seed = 1
    with pytest.raises(TypeError):
        load_dataset(config, "train")


def test_cache_follows_the_content(config, own_cache, write_npz, image_folder):
    config.update(source="npz", path=write_npz(), set_size=4)
    first = load_dataset(config, "train")
    write_npz(images=np.zeros((60, 28, 28), np.uint8))
    assert load_dataset(config, "train").images.max() == 0 < first.images.max()
    config.update(source="folder", path=str(image_folder))
    first = load_dataset(config, "train").info["num_images"]
    for k in range(6):
        os.unlink(image_folder / f"class{k}" / "0.png")
    assert load_dataset(config, "train").info["num_images"] == first - 4
