"""Small data sets for the tests of the data."""

import os
import pathlib

import numpy as np
import pytest
import tiny_tfds
from PIL import Image

from hfsgm_jax.config import default_config
from hfsgm_jax.data import tfds_prepare

_SHARED = pathlib.Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture
def config():
    """The data section of the default config."""
    data = default_config().data
    data.split = "random"
    return data


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    monkeypatch.setenv("HFSGM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def write_npz(tmp_path):
    def write(num_classes=10, num_images=6, side=28, name="data.npz", **arrays):
        labels = np.repeat(np.arange(num_classes), num_images)
        images = np.random.default_rng(0).integers(0, 256, (len(labels), side, side), np.uint8)
        np.savez(tmp_path / name, **{"images": images, "labels": labels, **arrays})
        return str(tmp_path / name)

    return write


@pytest.fixture
def image_folder(tmp_path):
    """Six classes of five images of different sizes, modes and formats; class k is of grey 40 k."""
    root = tmp_path / "folder"
    for k in range(6):
        (root / f"class{k}").mkdir(parents=True)
        for i, (mode, suffix) in enumerate([("L", "png"), ("RGB", "png"), ("L", "bmp"), ("RGB", "jpg"), ("1", "png")]):
            image = Image.new("L", (20 + 5 * i, 30), 40 * k).convert(mode)
            image.save(root / f"class{k}" / f"{i}.{suffix}")
    (root / "notes.txt").write_text("not a class")
    (root / "class0" / "notes.txt").write_text("not an image")
    return root


@pytest.fixture(scope="session")
def real_data():
    """The folder of real data, with `tfds` in it."""
    path = pathlib.Path(os.environ.get("HFSGM_TEST_DATA", _SHARED))
    if not (path / "tfds" / "omniglot").is_dir():
        pytest.skip(f"no real data at {path}: set HFSGM_TEST_DATA to a folder with tfds/omniglot and tfds/mnist")
    return path


@pytest.fixture(scope="session")
def cifar_dir(tmp_path_factory):
    """A tfds directory with a CIFAR100 of 5 images per class (see tiny_tfds)."""
    pytest.importorskip("tensorflow_datasets", reason="tfds is not installed")
    folder = tmp_path_factory.mktemp("cifar")
    tiny_tfds.write_cifar_archive(folder)
    with pytest.MonkeyPatch.context() as patch:
        tiny_tfds.download_from(patch, folder)
        tfds_prepare.prepare("cifar100", str(folder / "tfds"))
    return str(folder / "tfds")


@pytest.fixture
def cifar(config, cifar_dir):
    config.update(source="cifar100", split="official", data_dir=cifar_dir, image_size=32, channels=3)
    config.update(binarize="none", set_size=3, sets_per_batch=8)
    return config
