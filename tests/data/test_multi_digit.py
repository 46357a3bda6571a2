"""DOUBLE-MNIST and TRIPLE-MNIST."""

import os

import numpy as np
import pytest

from hfsgm_jax.data import fixed_sets, load_dataset, multi_digit


def framed_digits():
    """Two images per digit that show where they stand and what they are: an edge of 10 d + number + 100."""
    digits = np.full((10, 2, 28, 28), 50, np.uint8)
    digits[:, :, [0, -1]] = digits[:, :, :, [0, -1]] = 100 + np.arange(20).reshape(10, 2)[..., None, None]
    return list(digits)


@pytest.fixture
def omniglot_run(config, real_data, own_cache, monkeypatch):
    """The config of a run on omniglot; six images of a class instead of a thousand."""
    monkeypatch.setattr(multi_digit, "IMAGES", 6)
    config.update(source="omniglot", split="back_eval", resize="gmn", data_dir=str(real_data / "tfds"))
    return config


@pytest.mark.parametrize("digits, sizes", [(2, [64, 16, 20]), (3, [640, 160, 200])])
def test_parts_are_disjoint_and_never_change(digits, sizes):
    parts = multi_digit.part_classes(digits)
    assert [len(part) for part in parts] == sizes
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(10**digits))
    assert parts[2][:5].tolist() == {2: [2, 17, 25, 32, 36], 3: [2, 3, 8, 14, 16]}[digits]


@pytest.mark.parametrize("number, digits, side, cell", [(7, 2, 64, 32), (390, 3, 84, 28)])
def test_digits_stand_in_their_cells(number, digits, side, cell):
    canvas = multi_digit.compose(framed_digits(), number, digits, np.random.default_rng(0))
    assert canvas.shape == (1000, side, side) and canvas.dtype == np.uint8
    lefts, tops = [], []
    for cell_index, digit in enumerate(f"{number:0{digits}}"):
        cells = canvas[:, :, cell_index * cell : (cell_index + 1) * cell]
        assert set(np.unique(cells)) == {0, 50, 100 + 2 * int(digit), 101 + 2 * int(digit)}  # both images are used
        assert ((cells > 0).sum((1, 2)) == 28 * 28).all()
        lefts.append((cells > 0).any(1).argmax(1))
        tops.append((cells > 0).any(2).argmax(1))
    assert set(np.unique(tops)) == set(range(side - 28))  # as the generator: never the last position
    assert set(np.unique(lefts)) == set(range(max(cell - 28, 1)))
    assert abs(np.corrcoef(tops[0], tops[1])[0, 1]) < 0.1


def test_transfer_from_an_omniglot_run(omniglot_run, own_cache, monkeypatch):
    test = load_dataset(omniglot_run, "test", source="double_mnist")
    assert test.images.shape == (20 * 6, 28, 28, 1) and (test.size == 6).all()
    np.testing.assert_array_equal(test.label, multi_digit.part_classes(2)[2])
    facts = dict(source="double_mnist", scheme="official", resize="box", composed_of="mnist", tfds_splits=["test"])
    assert test.info.items() >= facts.items()
    assert 5 < test.images.mean() < 40  # white on black
    assert fixed_sets(test, 5, 0, 0).images.shape == (20, 5, 28, 28, 1)
    (cached,) = os.listdir(own_cache)  # the test classes alone
    assert "double_mnist" in cached and "part2" in cached
    monkeypatch.setattr(multi_digit, "compose", None)
    assert load_dataset(omniglot_run, "test", source="double_mnist").info == test.info


def test_as_the_source_of_a_run(omniglot_run):
    omniglot_run.update(source="double_mnist", split="official", resize="box", image_size=32, channels=3, heldout=2)
    omniglot_run.set_size = 4
    train, heldout = load_dataset(omniglot_run, "train"), load_dataset(omniglot_run, "heldout")
    assert train.images.shape == (64 * 4, 32, 32, 3) and heldout.images.shape == (64 * 2, 32, 32, 3)
    omniglot_run.seed = 1
    other = load_dataset(omniglot_run, "train")
    np.testing.assert_array_equal(train.label, other.label)
    assert train.info["sha256"] != other.info["sha256"]
