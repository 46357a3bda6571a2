"""Omniglot and MNIST through tfds: the real data, and the preparation without TensorFlow from small archives."""

import gzip
import io
import struct
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image
from tiny_tfds import download_from

from hfsgm_jax.data import fixed_sets, independent_pixel_nll, load_dataset, tfds_prepare
from hfsgm_jax.errors import DataError

tfds = pytest.importorskip("tensorflow_datasets", reason="tfds is not installed")


@pytest.fixture
def omniglot(config, real_data):
    config.update(source="omniglot", split="back_eval", data_dir=str(real_data / "tfds"))
    return config


def test_real_omniglot_has_the_known_statistics(omniglot):
    omniglot.resize = "box"
    train, test = load_dataset(omniglot, "train"), load_dataset(omniglot, "test")
    assert (train.num_classes, test.num_classes) == (867, 659)
    assert (train.size == 20).all() and not set(train.group) & set(test.group)
    assert independent_pixel_nll(train, train.images / 255) == pytest.approx(170.9, abs=0.1)
    assert independent_pixel_nll(train, test.images / 255) == pytest.approx(177.5, abs=0.1)
    grey = test.images[(test.images > 0) & (test.images < 255)] / 255
    entropy = -(grey * np.log(grey) + (1 - grey) * np.log1p(-grey)).sum() / len(test.images)
    assert entropy == pytest.approx(43.8, abs=0.1)
    assert fixed_sets(test, 5, 640, 0).images.shape == (640, 5, 28, 28, 1)


def test_real_omniglot_splits(omniglot):
    omniglot.split = "alphabet"
    train, val = load_dataset(omniglot, "train"), load_dataset(omniglot, "val")
    assert not set(train.group) & set(val.group) and train.num_classes + val.num_classes == 964
    omniglot.split = "back_eval"
    assert len(set(load_dataset(omniglot, "val").group)) == 30  # every background alphabet
    omniglot.split = "ns"
    assert [load_dataset(omniglot, s).num_classes for s in ("train", "val", "test")] == [1000, 200, 423]


def test_real_mnist_as_a_test_of_transfer(omniglot):
    test = load_dataset(omniglot, "test", source="mnist")
    assert test.num_classes == 10 and len(test.images) == 10_000
    assert test.info["tfds_splits"] == ["test"] and test.info["scheme"] == "back_eval"
    with pytest.raises(DataError, match="no train classes"):
        load_dataset(omniglot, "train", source="mnist")


def _write_omniglot(folder):
    """Archives of Omniglot's layout, one drawing of each of its 1,623 characters: pixel (0, label % 105) is ink."""

    def png(label):
        pixels = np.full((105, 105), True)
        pixels[0, label % 105] = False
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "png")
        return buffer.getvalue()

    for name, labels, first, alphabets in (("background", range(964), 0, 30), ("evaluation", range(964, 1623), 30, 20)):
        with zipfile.ZipFile(folder / f"images_{name}.zip", "w") as file:
            file.writestr(f"__MACOSX/images_{name}/x.png", b"")
            for label in labels:
                character = f"Alphabet{first + label % alphabets:02}/character{label // alphabets + 1:02}"
                file.writestr(f"images_{name}/{character}/{label + 1:04}_01.png", png(label))
    for name in ("small1", "small2"):
        with zipfile.ZipFile(folder / f"images_background_{name}.zip", "w") as file:
            file.writestr(f"images_background_{name}/Alphabet00/character01/0001_01.png", png(0))


def test_omniglot_is_prepared_without_tensorflow(config, own_cache, tmp_path, monkeypatch):
    _write_omniglot(tmp_path)
    download_from(monkeypatch, tmp_path)
    config.update(source="omniglot", data_dir=str(tmp_path / "tfds"), resize="box", image_size=105, split="back_eval")
    config.set_size = 1
    parts = [load_dataset(config, split) for split in ("train", "val", "test")]
    assert [part.num_classes for part in parts] == [867, 97, 659]
    for part in parts:
        assert (part.images.sum((1, 2, 3)) == 255).all()
        np.testing.assert_array_equal(part.images[:, 0].argmax(1)[:, 0], part.label % 105)
    assert len(set(parts[0].group) | set(parts[1].group)) == 30 and len(set(parts[2].group)) == 20
    assert "tensorflow" not in sys.modules
    monkeypatch.setattr(tfds_prepare, "_replace_tensorflow", None)  # a second time there is nothing to prepare
    tfds_prepare.prepare("omniglot", config.data_dir)


def test_mnist_is_prepared_without_tensorflow(config, own_cache, tmp_path, monkeypatch):
    from tensorflow_datasets.image_classification import mnist

    rng = np.random.default_rng(0)
    images, labels = {}, {}
    for name, constant, count in (("train", "_TRAIN_EXAMPLES", 60), ("t10k", "_TEST_EXAMPLES", 20)):
        monkeypatch.setattr(mnist, constant, count)
        images[name] = rng.integers(0, 256, (count, 28, 28), np.uint8)
        labels[name] = np.arange(count, dtype=np.uint8) % 10
        for kind, array in (("images-idx3", images[name]), ("labels-idx1", labels[name])):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            with gzip.open(tmp_path / f"{name}-{kind}-ubyte.gz", "wb") as file:
                file.write(header + array.tobytes())
    download_from(monkeypatch, tmp_path)
    config.update(source="mnist", data_dir=str(tmp_path / "tfds"))
    train = load_dataset(config, "train")
    assert (train.num_classes, train.info["tfds_splits"]) == (7, ["train", "test"]) and (train.size == 8).all()
    digit = {image.tobytes(): label for n in images for image, label in zip(images[n], labels[n], strict=True)}
    assert [digit[image.tobytes()] for image in train.images] == np.repeat(train.label, 8).tolist()
    config.update(split="back_eval", set_size=2)
    assert (load_dataset(config, "test").size == 2).all()  # the official test images only


def test_unprepared_and_offline_says_what_to_run(config, own_cache, tmp_path, monkeypatch):
    def offline(url):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tfds_prepare, "_check_online", offline)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    config.source = "omniglot"
    with pytest.raises(DataError) as error:
        load_dataset(config, "train")
    for part in ("no route", "github.com/brendenlake/omniglot", "prepare('omniglot', 'DIR')", str(tmp_path)):
        assert part in str(error.value)
