"""FS-CIFAR100 and CelebA from small prepared folders."""

import os
import sys

import numpy as np
import pytest
import tiny_tfds

from hfsgm_jax.data import load_dataset, tfds_prepare, tfds_sources
from hfsgm_jax.errors import DataError


def test_cifar100_is_split_by_superclass(cifar):
    parts = {split: load_dataset(cifar, split) for split in ("train", "val", "test")}
    assert [part.num_classes for part in parts.values()] == [60, 20, 20]
    assert set(parts["val"].group) == {8, 11, 13, 16} and set(parts["test"].group) == {0, 7, 12, 14}
    np.testing.assert_array_equal(np.sort(np.concatenate([part.label for part in parts.values()])), np.arange(100))
    for part in parts.values():
        np.testing.assert_array_equal(part.group, part.label // 5)
    cifar.split = "random"
    assert [load_dataset(cifar, split).num_classes for split in ("train", "val", "test")] == [70, 10, 20]


def test_cifar100_holds_training_and_test_images_of_a_class(cifar):
    test = load_dataset(cifar, "test")
    assert (test.size == 5).all() and test.info["tfds_splits"] == ["train", "test"]
    for label, start in zip(test.label, test.start, strict=True):
        images = test.images[start : start + 5]
        assert sorted(images[:, 0, 0, 1]) == [0, 1, 2, 3, 4] and set(images[:3, 0, 0, 1]) == {0, 1, 2}
        for image in images:
            np.testing.assert_array_equal(image, tiny_tfds.cifar_image(label, image[0, 0, 1]))
    assert "tensorflow" not in sys.modules


def test_gmn_becomes_box_in_transfer_only(cifar):
    cifar.update(source="omniglot", split="back_eval", resize="gmn", image_size=28, channels=1)
    test = load_dataset(cifar, "test", source="cifar100")
    assert (test.info["resize"], test.info["scheme"], test.images.shape[1:]) == ("box", "official", (28, 28, 1))
    assert cifar.resize == "gmn"
    cifar.update(source="cifar100", split="official")
    with pytest.raises(DataError, match="105x105.*'cifar100'"):
        load_dataset(cifar, "test")


@pytest.fixture(scope="module")
def celeba_dir(tmp_path_factory):
    """Identities 1..14: 3 and 9 have one image, 5 has six, the others two or three; grey level = 10 id + number."""
    pytest.importorskip("tensorflow_datasets", reason="tfds is not installed")
    folder = tmp_path_factory.mktemp("celeba")
    count = {identity: 2 + identity % 2 for identity in range(1, 15)} | {3: 1, 9: 1, 5: 6}
    images = [(identity, 10 * identity + number) for identity in count for number in range(count[identity])]
    order = np.random.default_rng(0).permutation(len(images))
    tiny_tfds.write_celeba_files(folder, [images[i] for i in order])
    with pytest.MonkeyPatch.context() as patch:  # the checksums are those of the real files
        manager = "tensorflow_datasets.download.DownloadManager"
        patch.setattr(f"{manager}._register_or_validate_checksums", lambda *_, **__: None)
        tfds_prepare.prepare("celeb_a", str(folder / "tfds"), str(folder))
    return str(folder / "tfds")


def test_celeba_keeps_identities_with_enough_images(config, celeba_dir, monkeypatch):
    monkeypatch.setattr(tfds_sources, "CELEBA_IMAGES", (2, 4))
    config.update(source="celeba", split="official", data_dir=celeba_dir, image_size=64, channels=3, set_size=2)
    parts = [load_dataset(config, split) for split in ("train", "val", "test")]
    assert [part.label.tolist() for part in parts] == [[1, 2, 4, 5, 6, 7, 8, 10], [11], [12, 13, 14]]
    for part in parts:
        assert part.image_shape == (64, 64, 3)
        assert part.size.tolist() == [{5: 4}.get(label, 2 + label % 2) for label in part.label]
        # The dark stripes above and below the centred square are cut off; a picture's level names its identity.
        levels = part.images.reshape(len(part.images), -1).astype(int)
        assert (np.ptp(levels, axis=1) <= 2).all()
        np.testing.assert_array_equal(levels[:, 0] // 10, np.repeat(part.label, part.size))
    config.stream = True
    for _ in range(2):  # the second time the order of images is from the cache
        np.testing.assert_array_equal(load_dataset(config, "train").images.to_memory(), parts[0].images)
    assert "tensorflow" not in sys.modules


def test_unprepared_celeba_says_what_to_download(config, own_cache, tmp_path, monkeypatch):
    def offline(url):
        raise ConnectionError(f"no route to {url}")

    monkeypatch.setattr(tfds_prepare, "_check_online", offline)
    config.update(source="celeba", split="official", data_dir=str(tmp_path), image_size=64, channels=3)
    os.makedirs(tmp_path / "celeb_a" / "2.0.1")  # no identities yet
    for file in ("celeb_a-train.array_record-00000-of-00001", "dataset_info.json"):
        (tmp_path / "celeb_a" / "2.0.1" / file).write_text("")
    with pytest.raises(DataError) as error:
        load_dataset(config, "train")
    for part in ("2.1.0", "drive.google.com", "CelebA.html", "prepare('celeb_a', 'DIR')", "by hand", str(tmp_path)):
        assert part in str(error.value)
