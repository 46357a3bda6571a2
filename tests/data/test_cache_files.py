"""The files of resized images that take the place of tfds and of the raw data."""

import dataclasses
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from hfsgm_jax.data import DataError, load_dataset, sources
from hfsgm_jax.data.cache import export_table
from hfsgm_jax.data.raw import Raw
from scripts import cache_data


@pytest.fixture
def omniglot(config, tmp_path, monkeypatch):
    """A data section whose Omniglot is of 13 classes in 4 alphabets, 3 drawings each."""
    drawings = np.random.default_rng(0).integers(0, 2, (39, 105, 105, 1), np.uint8) * np.uint8(255)
    labels = np.repeat(np.arange(13), 3)
    raw = Raw(drawings, labels, labels % 4, np.where(labels < 10, 0, 2), {"note": "tiny"})
    entry = dataclasses.replace(sources.SOURCES["omniglot"], read=lambda config: raw)
    monkeypatch.setitem(sources.SOURCES, "omniglot", entry)
    config.update(source="omniglot", split="back_eval", resize="gmn", set_size=3, cache_dir=str(tmp_path / "own"))
    return config


def without_tfds(monkeypatch):
    monkeypatch.undo()
    for name in ("tensorflow_datasets", "array_record"):
        monkeypatch.setitem(sys.modules, name, None)


def test_an_exported_file_is_all_that_is_needed(omniglot, tmp_path, monkeypatch):
    expected = {split: load_dataset(omniglot, split) for split in ("train", "val", "test")}
    (path,) = cache_data.write(omniglot, None, tmp_path / "small")
    without_tfds(monkeypatch)
    omniglot.cache_dir = str(tmp_path / "small")
    for split, dataset in expected.items():
        found = load_dataset(omniglot, split)
        assert found.info == dataset.info and found.info["note"] == "tiny"
        np.testing.assert_array_equal(found.images, dataset.images)
        np.testing.assert_array_equal(found.group, dataset.group)
    assert os.listdir(omniglot.cache_dir) == [os.path.basename(path)]


def test_an_altered_file_is_not_used(omniglot, tmp_path):
    first = load_dataset(omniglot, "test")
    path = export_table(omniglot, "omniglot", tmp_path / "small")
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{**arrays, "images": arrays["images"] ^ 255})
    omniglot.cache_dir = str(tmp_path / "small")
    with pytest.warns(UserWarning, match="not those of its sha256.*made anew"):
        assert load_dataset(omniglot, "test").info == first.info
    assert load_dataset(omniglot, "test").info == first.info  # and without a warning


def test_what_is_missing_is_named(omniglot, tmp_path, monkeypatch):
    without_tfds(monkeypatch)
    omniglot.cache_dir = str(tmp_path / "none")
    said = r"pip install.*scripts.cache_data.*no cache file.*omniglot-gmn-28x1-tfds"
    with pytest.raises(DataError, match=said) as missing:
        load_dataset(omniglot, "train")
    path = Path(str(missing.value).rpartition("no cache file ")[2].rstrip(".").replace("*", "0"))
    path.parent.mkdir()
    path.write_bytes(b"damaged")
    with pytest.warns(UserWarning), pytest.raises(DataError, match=rf"The cache file {path} cannot be read\.$"):
        load_dataset(omniglot, "train")
    with pytest.raises(DataError, match="Unknown source 'omniglt'. Did you mean 'omniglot'"):
        cache_data.write(omniglot, ["omniglt"], tmp_path)
