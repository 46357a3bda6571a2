import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from hfsgm_jax.data import DataError, load_dataset, strokes
from hfsgm_jax.data.splits import split_classes

NS_TEST = [4, 5, 8, 9, 10]  # the first test classes of `ns`


@pytest.fixture
def own_cache(config, tmp_path):
    config.cache_dir = str(tmp_path / "cache")
    return config.cache_dir


def omniglot_like():
    """Label, group and part of 1,623 classes in 30 background and 20 evaluation alphabets."""
    label = np.arange(1623)
    group = np.where(label < 964, label % 30, 30 + label % 20)
    return label, group, np.where(label < 964, 0, 2)


@pytest.mark.parametrize("scheme", ["ns", "back_eval", "alphabet", "random"])
def test_splits_are_disjoint_and_complete(scheme):
    label, group, part = omniglot_like()
    classes = split_classes("omniglot", scheme, label, group, part, seed=0)
    np.testing.assert_array_equal(np.sort(np.concatenate(list(classes.values()))), label)
    sizes = {name: len(ids) for name, ids in classes.items()}
    if scheme == "ns":
        assert sizes == dict(train=1000, val=200, test=423)
        assert 0 < (classes["train"] < 964).sum() < 964  # background and evaluation are mixed
    if scheme == "back_eval":
        assert sizes == dict(train=867, val=97, test=659)
        np.testing.assert_array_equal(classes["train"], np.arange(867))
    if scheme == "alphabet":
        assert not set(group[classes["train"]]) & set(group[classes["val"]])
        assert len(set(group[classes["val"]])) == 5 and sizes["test"] == 659
    if scheme == "random":
        assert sizes == dict(train=1623 - 162 - 325, val=162, test=325)


def test_splits_never_change():
    label, group, part = omniglot_like()
    assert split_classes("omniglot", "ns", label, group, part, 0)["test"][:5].tolist() == NS_TEST
    same = split_classes("omniglot", "ns", label, group, part, 1)["test"]
    assert same[:5].tolist() == NS_TEST
    a, b = (split_classes("omniglot", "random", label, group, part, seed)["test"] for seed in (0, 1))
    assert set(a) != set(b)


def test_random_split_of_few_classes():
    classes = np.arange(3)
    sizes = {k: len(v) for k, v in split_classes("npz", "random", classes, classes, classes * 0, 0).items()}
    assert sizes == dict(train=1, val=1, test=1)
    with pytest.raises(DataError, match="Too few classes: 2"):
        split_classes("npz", "random", classes[:2], classes[:2], classes[:2] * 0, 0)
    with pytest.raises(DataError, match="1623"):
        split_classes("omniglot", "ns", classes, classes, classes * 0, 0)
    with pytest.raises(DataError, match="alphabets"):
        split_classes("omniglot", "alphabet", classes, classes * 0, classes * 0, 0)


def test_heldout_images_leave_training(config, write_npz):
    config.update(source="npz", path=write_npz())
    everything = load_dataset(config, "train")
    config.heldout = 2
    config.set_size = 4
    train, heldout = load_dataset(config, "train"), load_dataset(config, "heldout")
    assert (train.size == 4).all() and (heldout.size == 2).all()
    np.testing.assert_array_equal(train.label, heldout.label)
    joined = np.concatenate([x.images.reshape(-1, n, 28, 28, 1) for x, n in ((train, 4), (heldout, 2))], axis=1)
    np.testing.assert_array_equal(joined.reshape(everything.images.shape), everything.images)
    assert (load_dataset(config, "val").size == 6).all()


def test_second_start_reads_the_cache(config, own_cache, monkeypatch):
    monkeypatch.setattr(strokes, "SPLIT_CLASSES", (6, 2, 2))
    first = load_dataset(config, "train")
    monkeypatch.setattr(strokes, "draw", None)
    second = load_dataset(config, "train")
    np.testing.assert_array_equal(first.images, second.images)
    assert first.info == second.info and len(os.listdir(config.cache_dir)) == 1
    config.seed = 1
    with pytest.raises(TypeError):
        load_dataset(config, "train")


def test_cache_follows_the_content_and_outlives_the_raw_data(config, own_cache, write_npz):
    path = write_npz()
    config.update(source="npz", path=path)
    first = load_dataset(config, "train")
    write_npz(images=np.zeros((60, 28, 28), np.uint8))
    changed = load_dataset(config, "train")
    assert changed.images.max() == 0 < first.images.max()
    os.unlink(path)
    assert load_dataset(config, "train").info == changed.info


def test_folder_cache_follows_the_content(config, own_cache, image_folder):
    config.update(source="folder", path=str(image_folder), set_size=4)
    first = load_dataset(config, "train").info["num_images"]
    for k in range(6):
        os.unlink(image_folder / f"class{k}" / "0.png")
    assert load_dataset(config, "train").info["num_images"] == first - 4


def test_broken_or_unwritable_cache_costs_time_only(config, own_cache, write_npz, tmp_path):
    config.update(source="npz", path=write_npz())
    first = load_dataset(config, "train")
    (name,) = os.listdir(config.cache_dir)
    file = os.path.join(config.cache_dir, name)
    os.truncate(file, 1000)
    with pytest.warns(UserWarning, match="cannot be read"):
        assert load_dataset(config, "train").info == first.info
    (tmp_path / "occupied").write_text("a file where the folder should be")
    config.cache_dir = str(tmp_path / "occupied")
    with pytest.warns(UserWarning, match="cannot be written"):
        assert load_dataset(config, "train").info == first.info


def test_cache_file_alone_suffices(config, real_data):
    """A process that can import neither tfds nor array_record, with no raw data, reads the cache."""
    config.update(source="omniglot", split="back_eval", data_dir=str(real_data / "tfds"))
    sha = load_dataset(config, "test").info["sha256"]
    code = f"""
        import sys
        sys.modules["tensorflow_datasets"] = sys.modules["array_record"] = None
        from configs.base import get_config
        from hfsgm_jax.data import load_dataset
        data = get_config().data
        data.update(source="omniglot", data_dir="/nowhere", cache_dir={config.cache_dir!r})
        assert load_dataset(data, "test").info["sha256"] == {sha!r}
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)
