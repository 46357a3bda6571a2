import os
import socket
import sys

import numpy as np
import pytest
from PIL import Image

from configs import own_images
from hfsgm_jax.data import Dataset, image_shape, load_dataset, strokes
from hfsgm_jax.errors import DataError


def load(config, **keys):
    config.update(keys)
    return load_dataset(config, "train")


def test_strokes_are_deterministic_distinct_and_recognisable():
    images = strokes.draw(40, 10, 28, seed=3)
    np.testing.assert_array_equal(images, strokes.draw(40, 10, 28, seed=3))
    assert images.shape == (40, 10, 28, 28, 1) and images.dtype == np.uint8
    assert (strokes.draw(2, 2, 28, seed=4) != images[:2, :2]).any()
    assert 0.04 < images.mean() / 255 < 0.2
    flat = images.reshape(40, 10, -1) / 255
    means = flat[:, :5].mean(1)
    nearest = ((flat[:, 5:, None] - means) ** 2).sum(-1).argmin(-1)
    assert (nearest == np.arange(40)[:, None]).mean() > 0.6


def test_strokes_dataset(config):
    config.split = "back_eval"
    sizes = {split: load_dataset(config, split).num_classes for split in ("train", "val", "test")}
    assert sizes == dict(train=600, val=50, test=100)
    dataset = load_dataset(config, "val")
    assert dataset.images.shape == (50 * 20, 28, 28, 1) == (1000, *image_shape(config))
    assert (dataset.size == 20).all() and dataset.info["resize"] == "drawn"


def test_npz_groups_by_class_in_stable_order(config, tmp_path):
    labels = np.array(["b", "a", "b", "c", "a", "b"] * 2)
    images = np.broadcast_to(np.arange(12, dtype=np.uint8)[:, None, None, None], (12, 4, 4, 1))
    np.savez(tmp_path / "x.npz", images=images, labels=labels, groups=np.where(labels == "a", 7, 9))
    config.update(source="npz", path=str(tmp_path / "x.npz"), image_size=4, set_size=2)
    values = {}
    for split in ("train", "val", "test"):
        dataset = load_dataset(config, split)
        (name,) = dataset.info["class_names"]
        values[name] = dataset.images[:, 0, 0, 0].tolist()
    assert values == {"a": [1, 4, 7, 10], "b": [0, 2, 5, 6, 8, 11], "c": [3, 9]}


def test_npz_may_hold_an_axis_of_classes_and_is_resized(config, write_npz):
    images = np.zeros((10, 6, 30, 24), bool)
    images[..., 8] = True
    path = write_npz(images=images, labels=np.repeat(np.arange(10)[:, None], 6, 1))
    dataset = load(config, source="npz", path=path, image_size=12, channels=3)
    assert dataset.images.shape == (42, 12, 12, 3) and dataset.images.max() == 128


@pytest.mark.parametrize(
    "arrays, message",
    [
        (dict(images=np.full((60, 28, 28), 2.0)), "must lie in"),
        (dict(images=np.array([None] * 60)), "no objects"),
        (dict(images=np.zeros((60, 28, 28, 4), np.uint8)), "4 channels"),
        (dict(images=np.zeros((60, 1, 1), np.float32)), "single numbers.*data.image_size=1"),
    ],
)
def test_bad_npz_is_refused(config, write_npz, arrays, message):
    with pytest.raises(DataError, match=message):
        load(config, source="npz", path=write_npz(**arrays))


def test_no_npz_is_refused(config, tmp_path):
    np.savez(tmp_path / "images.npz", images=np.zeros((3, 28, 28)))
    (tmp_path / "text.npz").write_text("text")
    np.save(tmp_path / "one.npy", np.zeros(3))
    for name in ("images.npz", "text.npz", "one.npy", "none.npz"):
        with pytest.raises(DataError, match="cannot be read as .npz.*`labels`"):
            load(config, source="npz", path=str(tmp_path / name))


def test_folder_reads_all_formats(config, image_folder):
    config.update(source="folder", path=str(image_folder), set_size=5)
    for split, count in (("train", 4), ("val", 1), ("test", 1)):
        dataset = load_dataset(config, split)
        assert dataset.num_classes == count and (dataset.size == 5).all()
        grey = np.array([40 * int(name[-1]) for name in dataset.info["class_names"]])
        middle = dataset.images[:, 14, 14, 0].reshape(-1, 5)
        np.testing.assert_allclose(middle[:, :4], np.repeat(grey[:, None], 4, 1), atol=2)


def test_folder_composes_transparency_on_white_and_converts_to_rgb(config, image_folder):
    for k in range(6):
        Image.new("RGBA", (28, 28), (255, 0, 0, 0)).save(image_folder / f"class{k}" / "0.png")
    dataset = load(config, source="folder", path=str(image_folder), channels=3)
    assert dataset.image_shape == (28, 28, 3) and (dataset.images[dataset.start] == 255).all()


def test_a_folder_is_looked_at(tmp_path):
    """Drawings in either polarity, grey and colour photographs."""
    rng = np.random.default_rng(0)
    ink = strokes.draw(3, 4, 60, seed=0)[..., 0]
    smooth = np.linspace(40, 200, 70)[:, None] + rng.uniform(-30, 30, (3, 4, 1, 50))
    color = np.stack([smooth, 255 - smooth, 0.5 * smooth], -1)
    kinds = dict(light=ink, dark=255 - ink, grey=smooth, color=color)
    for name, classes in kinds.items():
        for k, images in enumerate(classes):
            (tmp_path / name / str(k)).mkdir(parents=True)
            for i, image in enumerate(images[: 4 - k]):
                Image.fromarray(np.rint(image).astype(np.uint8)).save(tmp_path / name / str(k) / f"{i}.png")
    seen = {name: own_images.look(str(tmp_path / name)) for name in kinds}
    assert seen["light"] == own_images.Look(3, 9, 2, 60, drawn=True, colored=False)
    assert seen["dark"] == own_images.Look(3, 9, 2, 60, drawn=True, colored=False)
    assert seen["grey"] == own_images.Look(3, 9, 2, 50, drawn=False, colored=False)
    assert seen["color"] == own_images.Look(3, 9, 2, 50, drawn=False, colored=True)
    large = tmp_path / "color" / "0" / "large.jpg"  # decoded at a fraction of its size
    for k in range(3):
        for path in (tmp_path / "color" / str(k)).iterdir():
            Image.new("RGB", (2000, 1600), (200, 90, 20)).save(path.with_suffix(".jpg"))
            path.unlink() if path.suffix != ".jpg" else None
    large.write_bytes(b"")  # one that is unreadable does not matter
    assert own_images.look(str(tmp_path / "color")).side == 1600
    (tmp_path / "none" / "a").mkdir(parents=True)
    (tmp_path / "none" / "a" / "x.png").write_bytes(b"")
    with pytest.raises(DataError, match="1 images.*none can be read: .*x.png"):
        own_images.look(str(tmp_path / "none"))


def test_ink_is_light_on_dark_in_either_polarity_and_noise_is_paper(config, tmp_path):
    drawn = strokes.draw(6, 2, 40, seed=0)[..., 0]
    for k, (light, dark) in enumerate(drawn):
        (tmp_path / str(k)).mkdir()
        Image.fromarray(light).save(tmp_path / str(k) / "0.png")
        Image.fromarray((240 - 0.8 * dark + np.arange(40) % 2).astype(np.uint8)).save(tmp_path / str(k) / "1.png")
    config.update(source="folder", path=str(tmp_path), set_size=2, image_size=40, ink=True)
    train = load(config)
    expected = drawn[[int(name) for name in train.info["class_names"]]].reshape(-1, 40, 40)
    np.testing.assert_allclose(train.images[..., 0], np.where(expected < 26, 0, expected), atol=30)
    assert (train.images[..., 0][expected == 0] == 0).all()
    Image.new("L", (40, 40), 200).save(tmp_path / "0" / "empty.png")
    with pytest.raises(DataError, match="1 of 13 images.*0/empty.png.*no strokes are seen"):
        load(config)


@pytest.mark.parametrize("stream", [False, True])
def test_unreadable_images_are_named_and_counted(config, image_folder, stream, monkeypatch):
    """Broken files, broken links, pipes and sockets; a directory is looked into."""
    bad = image_folder / "class1"
    good = (bad / "1.png").read_bytes()
    (bad / "1.png").write_bytes(good[: len(good) // 2])
    (image_folder / "class2" / "2.bmp").write_bytes(b"")
    (bad / "link.png").symlink_to("nowhere.png")
    os.mkfifo(bad / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(bad)  # the name of a socket is short
        server.bind("socket.png")
    (bad / "folder.png").mkdir()
    (image_folder / "empty").mkdir()
    keys = dict(source="folder", path=str(image_folder), set_size=4, stream=stream)
    with pytest.warns(UserWarning, match="without images.*empty"):
        with pytest.raises(DataError, match=r"5 of 33 .*class1/1.png.*class1/pipe.jpg \(.*regular.*class2/2.bmp"):
            load(config, **keys)
    with pytest.warns(UserWarning, match="5 of 33"):
        assert load(config, **keys, corrupt="skip").info["corrupt_images"] == 5
    config.path = str(bad)
    with pytest.raises(DataError, match="no classes"):
        load(config)


@pytest.mark.parametrize(
    "keys, message",
    [
        (dict(source="npz"), "needs data.path"),
        (dict(source="folder", path="no/such/folder"), "is not a folder"),
        (dict(source="folder", path=__file__), "is not a folder"),
        (dict(resize="gmn"), "105x105"),
        (dict(source="omniglot", split="ns", resize="gmn", image_size=32), "image_size=32"),
        (dict(split="ns"), "none of source 'strokes': use back_eval or official"),
        (dict(source="npz", path="x", split="back_eval"), "use random"),
        (dict(stream=True), "data.stream=True.*'strokes'.*use False"),
        (dict(set_size=21), "have 20 to 20 images"),
        (dict(heldout=20), "smallest class"),
    ],
)
def test_user_errors(config, keys, message):
    with pytest.raises(DataError, match=message):
        load(config, **keys)


def test_keys_are_checked_before_anything_is_read(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    config.update(source="omniglot", split="official", resize="gmn", image_size=32)
    with pytest.raises(DataError, match="28x28"):
        load_dataset(config, "train")
    with pytest.raises(DataError, match="'omniglott' is not one of .*did you mean 'omniglot'"):
        load_dataset(config, "test", source="omniglott")
    with pytest.raises(DataError, match="split='tset' is not one of .*did you mean 'test'"):
        load_dataset(config, "tset")


def test_sets_larger_than_the_smallest_class_are_refused_unless_sizes_vary(config, write_npz):
    labels = np.repeat(np.arange(10), [6] * 9 + [3])
    images = np.zeros((len(labels), 28, 28), np.uint8)
    config.update(source="npz", split="random", seed=1, path=write_npz(images=images, labels=labels), set_size=3)
    while load_dataset(config, "train").size.min() > 3:  # the small class is to be one of training
        config.seed += 1
    config.set_size = 5
    with pytest.raises(DataError, match=r"have 3 to 6 images.*range may go up to \(3, 6\)"):
        load_dataset(config, "train")
    config.set_size = (2, 5)
    assert load_dataset(config, "train").size.min() == 3


def test_only_squares_are_turned(config):
    wide = Dataset.from_arrays(np.zeros((40, 20, 28, 1), np.uint8), np.arange(40) // 4)
    config.update(split="random", set_size=3, dihedral=True)
    with pytest.raises(DataError, match=r"data.dihedral=True .* \(20, 28, 1\), no squares: use False"):
        load_dataset(config, "train", dataset=wide)


def test_gmn_needs_binary_105_pixels(config, write_npz):
    config.update(source="npz", resize="gmn")
    with pytest.raises(DataError, match=r"\(28, 28, 1\)"):
        load(config, path=write_npz())
    with pytest.raises(DataError, match="grey"):
        load(config, path=write_npz(side=105, name="grey.npz"))
    binary = np.random.default_rng(1).random((60, 105, 105)) < 0.1
    dataset = load(config, path=write_npz(images=binary, name="binary.npz"))
    row = np.floor(3.75 * np.arange(28)).astype(int)
    expected = 255 * binary[dataset.label[0] * 6][np.ix_(row, row)]
    np.testing.assert_array_equal(dataset.images[0, :, :, 0], expected)
