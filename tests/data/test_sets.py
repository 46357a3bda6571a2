import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfsgm_jax.data import Dataset, SetSpec, augment, drawn_sets, fixed_sets, independent_pixel_nll, sample_sets
from hfsgm_jax.errors import DataError

SIZES = np.array([6, 3, 8, 5, 7, 6], np.int32)


@pytest.fixture(scope="module")
def dataset():
    """Six classes; the pixels of image i of class k hold 20 k + i, but for one corner of 255."""
    values = np.concatenate([20 * k + np.arange(n) for k, n in enumerate(SIZES)]).astype(np.uint8)
    images = np.broadcast_to(values[:, None, None, None], (len(values), 8, 8, 1)).copy()
    images[:, 0, 1] = 255
    classes = np.arange(6, dtype=np.int32)
    start = (np.cumsum(SIZES) - SIZES).astype(np.int32)
    return Dataset(images, start, SIZES, label=classes + 100, group=classes // 2, part=0 * classes)


@functools.partial(jax.jit, static_argnums=2)
def sample(table, key, spec):
    return sample_sets(table, key, spec)


def content(sets):
    """Class and member that the pixels of each slot tell."""
    value = np.rint(np.asarray(sets.images[:, :, 4, 4, 0]) * 255).astype(int)
    return value // 20, value % 20


def class_of(sets):
    return np.asarray(sets.ids["set"]) - 100


def test_sets_hold_distinct_images_of_one_class(dataset):
    spec = SetSpec(rows=6, low=5, high=5)
    sets = sample(dataset.table(), jax.random.key(0), spec)
    chex.assert_shape(sets.images, (6, 5, 8, 8, 1))
    kind, member = content(sets)
    mask = np.asarray(sets.observed)
    for other in (sets.present, sets.context["set"], sets.target):
        np.testing.assert_array_equal(other, mask)
    assert sorted(class_of(sets)) == list(range(6))  # without replacement
    np.testing.assert_array_equal(mask.sum(1), np.minimum(5, SIZES[class_of(sets)]))
    for row in range(6):
        assert (kind[row, mask[row]] == class_of(sets)[row]).all()
        assert len(set(member[row, mask[row]])) == mask[row].sum()
    np.testing.assert_array_equal(np.where(mask, member, -1), sets.member)
    np.testing.assert_array_equal(sets.sizes["set"], SIZES[class_of(sets)])
    np.testing.assert_array_equal(sets.ids["group"], class_of(sets) // 2)
    assert (np.asarray(sets.images)[~mask] == 0).all()
    eager = sample_sets(dataset.table(), jax.random.key(0), spec)
    chex.assert_trees_all_equal(eager, sets)


def test_members_and_classes_are_uniform(dataset):
    table = dataset.table()
    spec = SetSpec(rows=12, low=1, high=2)  # more rows than classes: with replacement
    sets = jax.jit(jax.vmap(lambda key: sample_sets(table, key, spec)))(jax.random.split(jax.random.key(1), 1000))
    label, member = class_of(sets), np.asarray(sets.member)
    np.testing.assert_allclose(np.bincount(label.ravel()) / label.size, 1 / 6, atol=0.02)
    np.testing.assert_allclose(sets.observed.sum(-1).mean(), 1.5, atol=0.02)
    first = member[..., 0][label == 2]
    np.testing.assert_allclose(np.bincount(first) / first.size, 1 / 8, atol=0.03)


def test_set_sizes_are_mixed_up_to_whole_classes(dataset):
    drawn = [sample(dataset.table(), jax.random.key(i), SetSpec(rows=6, low=2, high=4)) for i in range(10)]
    assert set(np.concatenate([sets.observed.sum(1) for sets in drawn])) == {2, 3, 4}
    sets = sample(dataset.table(), jax.random.key(0), SetSpec(rows=3, low=20, high=20))
    np.testing.assert_array_equal(sets.observed.sum(1), SIZES[class_of(sets)])


def test_padding_and_rows_do_not_change_the_noise():
    spec = SetSpec(rows=1, low=1, high=1, flip=True, affine=0.1)
    change = jax.jit(lambda k, x: augment.binarize_rows(k, augment.augment_rows(k, x, None, spec)))
    keys = jax.random.split(jax.random.key(0), 3)
    images = np.random.default_rng(0).random((3, 6, 8, 8, 1), np.float32)
    np.testing.assert_array_equal(change(keys, images)[1:, :4], change(keys[1:], images[1:, :4]))


def test_dihedral_copies_are_classes(dataset):
    image = jnp.asarray(np.random.default_rng(0).random((5, 5, 1)))
    copies = [np.asarray(augment.dihedral(image, jnp.array(index))) for index in range(8)]
    np.testing.assert_array_equal(copies[0], image)
    expected = {np.rot90(x, k).tobytes() for k in range(4) for x in (np.asarray(image), np.asarray(image)[:, ::-1])}
    assert {copy.tobytes() for copy in copies} == expected and len(expected) == 8
    sets = sample(dataset.table(), jax.random.key(0), SetSpec(rows=48, low=2, high=2, dihedral=True))
    label = np.asarray(sets.ids["set"])
    assert sorted(label) == list(range(800, 848))
    np.testing.assert_array_equal(sets.sizes["set"], SIZES[label // 8 - 100])
    corner = np.asarray(sets.images).max(1)[..., 0].reshape(48, -1).argmax(1)
    assert len({(int(x), int(index)) for x, index in zip(corner, label % 8, strict=True)}) == 8


def test_a_share_of_the_sets_stays_as_drawn_and_binary_pixels_stay_binary():
    images = jnp.asarray(np.random.default_rng(0).integers(0, 2, (400, 2, 8, 8, 1)), jnp.float32)
    spec = SetSpec(rows=400, low=2, high=2, rotate=180.0, affine=0.1, augmented=0.25, binary=True)
    out = jax.jit(lambda k, x: augment.augment_rows(k, x, None, spec))(jax.random.split(jax.random.key(0), 400), images)
    changed = (np.asarray(out) != np.asarray(images)).any((1, 2, 3, 4))
    assert set(np.unique(out)) == {0, 1} and abs(changed.mean() - 0.25) < 0.05


@pytest.mark.parametrize("change", [dict(flip=True), dict(rotate=180.0), dict(affine=0.1)])
def test_augmentation_stays_in_range_and_is_shared_by_the_set(change):
    image = jax.random.uniform(jax.random.key(1), (8, 8, 1))
    images = jnp.broadcast_to(image, (6, 3, 8, 8, 1))
    spec = SetSpec(rows=6, low=3, high=3, **change)
    out = jax.jit(lambda k: augment.augment_rows(k, images, None, spec))(jax.random.split(jax.random.key(0), 6))
    assert out.min() >= 0 and out.max() <= 1
    assert len({row.tobytes() for row in np.asarray(out)}) > 2  # sets differ
    shared = np.allclose(out, out[:, :1], atol=1e-6)
    assert shared == ("affine" not in change)


def test_spec_from_config(config):
    assert SetSpec.from_config(config) == SetSpec(rows=16, low=5, high=5, binarize="dynamic", augmented=0.5)
    config.update(set_size=(2, 20), dihedral=True, copies=3)
    assert hash(SetSpec.from_config(config, 4)) == hash(
        SetSpec(16, 2, 20, "dynamic", augmented=0.5, dihedral=True, targets=4, copies=3)
    )


def test_fixed_sets_cut_each_class_once(dataset):
    sets = fixed_sets(dataset, 3, 0, seed=0, binarize="none")
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(sets))
    kind, member = content(sets)
    assert sets.images.dtype == np.float32 and sets.observed.all() and sets.target.all() and sets.context["set"].all()
    np.testing.assert_array_equal(member, sets.member)
    np.testing.assert_array_equal(kind, np.repeat(class_of(sets)[:, None], 3, 1))
    assert sorted(class_of(sets)) == sorted(np.repeat(np.arange(6), SIZES // 3))
    assert len({(k, m) for k, m in zip(kind.ravel(), member.ravel(), strict=True)}) == kind.size
    assert len(set(class_of(sets)[:6])) == 6  # round-robin: every class before any twice


def test_fixed_sets_are_deterministic_and_a_prefix(dataset):
    whole, few = fixed_sets(dataset, 3, 0, 1), fixed_sets(dataset, 3, 4, 1)
    chex.assert_trees_all_equal(few, jax.tree.map(lambda x: x[:4], whole))
    assert (fixed_sets(dataset, 3, 0, 2).images != whole.images).any()
    drawn = {}  # an image's binarisation does not depend on its set
    for sets in (whole, fixed_sets(dataset, 2, 0, 1)):
        pairs = zip(np.repeat(sets.ids["set"], sets.num_slots), sets.member.ravel(), sets.images.reshape(-1, 8, 8, 1))
        for label, member, image in pairs:
            np.testing.assert_array_equal(image, drawn.setdefault((label, member), image))
    assert set(np.unique(whole.images)) == {0.0, 1.0} and (whole.images[:, :, 0, 1] == 1).all()


def test_fixed_sets_of_small_classes_are_masked(dataset):
    sets = fixed_sets(dataset, 8, 0, 0)
    np.testing.assert_array_equal(sets.observed.sum(1), SIZES[class_of(sets)])
    assert (sets.member[~sets.present] == -1).all() and (sets.images[~sets.present] == 0).all()
    with pytest.raises(DataError, match="largest class .* has 8"):
        fixed_sets(dataset, 9, 0, 0)


def test_drawn_sets_are_those_of_training(dataset):
    spec = SetSpec(rows=4, low=2, high=3, targets=2, binarize="dynamic", copies=2)
    sets = drawn_sets(dataset, spec, 7)
    chex.assert_trees_all_equal(sets, sample(dataset.table(), jax.random.key(7), spec))
    assert isinstance(sets.images, np.ndarray) and sets.target[:, 3:].all() and not sets.target[:, :3].any()


def test_independent_pixel_nll():
    images = np.zeros((4, 2, 1, 1), np.uint8)
    images[:2, 0] = 255
    train = Dataset(images, *[np.zeros(1, np.int32)] * 5)
    expected = np.log(2) - np.log(0.9)  # a pixel of mean 1/2, and one never set: (0 + 1/2) / (4 + 1)
    np.testing.assert_allclose(independent_pixel_nll(train, (images / 255)[:, None]), expected)
