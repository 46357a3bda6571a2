import numpy as np
import pytest
from PIL import Image

from hfsgm_jax.data import DataError, fixed_sets, image_shape, load_dataset, strokes


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


@pytest.mark.parametrize("dtype", [np.bool_, np.int64, np.float32])
def test_npz_pixels_become_uint8(config, write_npz, dtype):
    images = np.zeros((10, 6, 28, 28), dtype)
    images[..., 3] = 1
    path = write_npz(images=images, labels=np.repeat(np.arange(10)[:, None], 6, 1))
    dataset = load(config, source="npz", path=path)
    assert dataset.images.dtype == np.uint8
    assert dataset.images[0, 0, 3, 0] == (1 if dtype == np.int64 else 255)


def test_single_floats_stay_floats(config, write_npz):
    values = np.linspace(-3, 3, 60, dtype=np.float32).reshape(60, 1, 1, 1)
    dataset = load(config, source="npz", path=write_npz(images=values), image_size=1)
    assert dataset.images.dtype == np.float32 and dataset.images.min() < 0
    batch = fixed_sets(dataset, 5, 0, 0, "none")
    assert batch.images.shape[1:] == (5, 1, 1, 1) and batch.images.min() < 0
    with pytest.raises(DataError, match="8-bit"):
        fixed_sets(dataset, 5, 0, 0, "dynamic")


@pytest.mark.parametrize(
    "arrays, message",
    [
        (dict(images=np.full((60, 28, 28), 2.0)), "must lie in"),
        (dict(images=np.zeros((59, 28, 28), np.uint8)), "do not fit"),
        (dict(images=np.zeros((0, 28, 28), np.uint8), labels=np.zeros(0, int)), "no images"),
        (dict(images=np.array([None] * 60)), "cannot be read"),
        (dict(groups=np.zeros(3, int)), "groups"),
        (dict(images=np.zeros((60, 28, 28, 4), np.uint8)), "4 channels"),
    ],
)
def test_bad_npz_is_refused(config, write_npz, arrays, message):
    with pytest.raises(DataError, match=message):
        load(config, source="npz", path=write_npz(**arrays))


def test_npz_without_labels_or_not_npz_is_refused(config, tmp_path):
    np.savez(tmp_path / "x.npz", images=np.zeros((3, 28, 28)))
    with pytest.raises(DataError, match="labels"):
        load(config, source="npz", path=str(tmp_path / "x.npz"))
    (tmp_path / "y.npz").write_text("text")
    with pytest.raises(DataError, match="cannot be read"):
        load(config, source="npz", path=str(tmp_path / "y.npz"))


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


def test_corrupt_images_are_named_and_counted(config, image_folder):
    good = (image_folder / "class1" / "1.png").read_bytes()
    (image_folder / "class1" / "1.png").write_bytes(good[: len(good) // 2])
    (image_folder / "class2" / "2.bmp").write_bytes(b"")
    keys = dict(source="folder", path=str(image_folder), set_size=4)
    with pytest.raises(DataError, match=r"2 of 30 .*class1/1.png.*class2/2.bmp"):
        load(config, **keys)
    with pytest.warns(UserWarning, match="2 of 30"):
        dataset = load(config, **keys, corrupt="skip")
    assert dataset.info["corrupt_images"] == 2
    with pytest.raises(DataError, match="data.corrupt"):
        load(config, **keys | dict(corrupt="ignore"))


def test_folder_without_classes_or_images_is_refused(config, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="No classes"):
        load(config, source="folder", path=str(tmp_path / "empty"))
    (tmp_path / "empty" / "a").mkdir()
    (tmp_path / "empty" / "a" / "x.png").write_text("text")
    with pytest.raises(DataError, match="None of the 1"), pytest.warns(UserWarning, match="1 of 1"):
        load(config, source="folder", path=str(tmp_path / "empty"), corrupt="skip")


@pytest.mark.parametrize(
    "keys, message",
    [
        (dict(source="stroks"), "Did you mean 'strokes'"),
        (dict(split="randm"), "Did you mean 'random'"),
        (dict(resize="bax"), "Did you mean 'box'"),
        (dict(source="npz"), "needs data.path"),
        (dict(source="folder", path="no/such/folder"), "does not exist"),
        (dict(source="npz", path="no/such.npz"), "does not exist"),
        (dict(resize="gmn"), "105x105"),
        (dict(source="omniglot", resize="gmn", image_size=32), "image_size is 32"),
        (dict(source="strokes", split="ns"), "not defined"),
        (dict(source="npz", split="back_eval"), "use random"),
        (dict(set_size=21), "largest class has 20"),
        (dict(set_size=(0, 5)), "set_size"),
        (dict(heldout=20), "smallest class"),
    ],
)
def test_user_errors(config, keys, message):
    if isinstance(keys.get("set_size"), tuple):
        with config.ignore_type():
            config.set_size = keys["set_size"]
        keys = {}
    with pytest.raises(DataError, match=message):
        load(config, **keys)


def test_sets_larger_than_the_smallest_class_are_refused_unless_sizes_vary(config, write_npz):
    labels = np.repeat(np.arange(10), [6] * 9 + [3])
    images = np.zeros((len(labels), 28, 28), np.uint8)
    config.update(source="npz", split="random", seed=1, path=write_npz(images=images, labels=labels))
    for seed in range(20):  # the small class is to be one of training
        config.seed = seed
        config.set_size = 3
        if load_dataset(config, "train").size.min() == 3:
            break
    config.set_size = 5
    with pytest.raises(DataError, match=r"1 of \d training classes have fewer than 5 images, the smallest class 3"):
        load_dataset(config, "train")
    with config.ignore_type():
        config.set_size = (2, 5)
    assert load_dataset(config, "train").size.min() == 3
    config.set_size = (4, 5)
    with pytest.raises(DataError, match=r"a range such as data.set_size=\(3, 5\)"):
        load_dataset(config, "train")


def test_unknown_split_and_no_heldout_images(config):
    with pytest.raises(DataError, match="Did you mean 'test'"):
        load_dataset(config, "tset")
    with pytest.raises(DataError, match="data.heldout"):
        load_dataset(config, "heldout")


def test_gmn_needs_binary_105_pixels(config, write_npz):
    config.update(source="npz", resize="gmn")
    with pytest.raises(DataError, match="28x28"):
        load(config, path=write_npz())
    with pytest.raises(DataError, match="grey"):
        load(config, path=write_npz(side=105, name="grey.npz"))
    binary = np.random.default_rng(1).random((60, 105, 105)) < 0.1
    dataset = load(config, path=write_npz(images=binary, name="binary.npz"))
    assert dataset.image_shape == (28, 28, 1)
    row = np.floor(3.75 * np.arange(28)).astype(int)
    expected = 255 * binary[dataset.label[0] * 6][np.ix_(row, row)]
    np.testing.assert_array_equal(dataset.images[0, :, :, 0], expected)
