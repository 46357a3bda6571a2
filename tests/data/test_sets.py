import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfsgm_jax.data import DataError, Dataset, SetSpec, augment, fixed_sets, independent_pixel_nll, sample_sets

SIZES = np.array([6, 3, 8, 5, 7, 6], np.int32)


@pytest.fixture(scope="module")
def dataset():
    """Six classes; the pixels of image i of class k hold 20 k + i, but for one corner of 255."""
    values = np.concatenate([20 * k + np.arange(n) for k, n in enumerate(SIZES)]).astype(np.uint8)
    images = np.broadcast_to(values[:, None, None, None], (len(values), 8, 8, 1)).copy()
    images[:, 0, 1] = 255
    classes = np.arange(6, dtype=np.int32)
    start = (np.cumsum(SIZES) - SIZES).astype(np.int32)
    return Dataset(images, start, SIZES, label=classes + 100, group=classes // 2, info={"split": "train"})


@functools.partial(jax.jit, static_argnums=2)
def sample(table, key, spec, rows=None):
    return sample_sets(table, key, spec, rows)


def content(batch):
    """Class and member that the pixels of each slot tell."""
    value = np.rint(np.asarray(batch.images[:, :, 4, 4, 0]) * 255).astype(int)
    return value // 20, value % 20


def test_sets_hold_distinct_images_of_one_class(dataset):
    spec = SetSpec(rows=6, low=5, high=5)
    batch = sample(dataset.on_device(), jax.random.key(0), spec)
    chex.assert_shape(batch.images, (6, 5, 8, 8, 1))
    kind, member = content(batch)
    mask = np.asarray(batch.mask)
    assert sorted(np.asarray(batch.label)) == list(range(100, 106))  # without replacement
    np.testing.assert_array_equal(mask.sum(1), np.minimum(5, SIZES[batch.label - 100]))
    for row in range(6):
        assert (kind[row, mask[row]] == batch.label[row] - 100).all()
        assert len(set(member[row, mask[row]])) == mask[row].sum()
    np.testing.assert_array_equal(np.where(mask, member, -1), batch.member)
    np.testing.assert_array_equal(batch.class_size, SIZES[batch.label - 100])
    np.testing.assert_array_equal(batch.group, (batch.label - 100) // 2)
    assert (np.asarray(batch.images)[~mask] == 0).all()


def test_members_and_classes_are_uniform(dataset):
    table = dataset.on_device()
    spec = SetSpec(rows=12, low=1, high=2)  # more rows than classes: with replacement
    batches = jax.jit(jax.vmap(lambda key: sample_sets(table, key, spec)))(jax.random.split(jax.random.key(1), 1000))
    label, member, mask = (np.asarray(x) for x in (batches.label - 100, batches.member, batches.mask))
    np.testing.assert_allclose(np.bincount(label.ravel()) / label.size, 1 / 6, atol=0.02)
    np.testing.assert_allclose(mask.sum(-1).mean(), 1.5, atol=0.02)
    first = member[..., 0][label == 2]
    np.testing.assert_allclose(np.bincount(first) / first.size, 1 / 8, atol=0.03)


def test_set_sizes_are_mixed(dataset):
    batches = [sample(dataset.on_device(), jax.random.key(i), SetSpec(rows=6, low=2, high=4)) for i in range(10)]
    sizes = np.concatenate([np.asarray(batch.mask).sum(1) for batch in batches])
    assert set(sizes) == {2, 3, 4}


def test_set_larger_than_every_class_gives_whole_classes(dataset):
    batch = sample(dataset.on_device(), jax.random.key(0), SetSpec(rows=3, low=20, high=20))
    np.testing.assert_array_equal(np.asarray(batch.mask).sum(1), SIZES[batch.label - 100])


@pytest.mark.parametrize("num_rows", [4, 9])
def test_rows_are_functions_of_key_and_index(dataset, num_rows):
    table, key = dataset.on_device(), jax.random.key(5)
    spec = SetSpec(num_rows, 2, 4, binarize="dynamic" if num_rows == 4 else "none")
    whole = sample(table, key, spec)
    chex.assert_trees_all_equal(whole, sample(table, key, spec))
    rows = jnp.array([3, 1])
    chex.assert_trees_all_equal(sample(table, key, spec, rows), jax.tree.map(lambda x: x[rows], whole))
    other = sample(table, jax.random.key(6), spec)
    assert (np.asarray(other.images) != np.asarray(whole.images)).any()


def test_eager_equals_jit(dataset):
    spec = SetSpec(rows=4, low=2, high=4)
    eager = sample_sets(dataset.on_device(), jax.random.key(0), spec)
    chex.assert_trees_all_equal(eager, sample(dataset.on_device(), jax.random.key(0), spec))


def test_padding_and_rows_do_not_change_the_noise():
    spec = SetSpec(rows=1, low=1, high=1, flip=True, affine=0.1)
    change = jax.jit(lambda k, x: augment.binarize_rows(k, augment.augment_rows(k, x, None, spec)))
    keys = jax.random.split(jax.random.key(0), 3)
    images = np.random.default_rng(0).random((3, 6, 8, 8, 1), np.float32)
    np.testing.assert_array_equal(change(keys, images)[1:, :4], change(keys[1:], images[1:, :4]))


def test_binarisation_has_the_images_means():
    images = jnp.broadcast_to(jnp.array([0.0, 0.25, 0.5, 1.0])[:, None], (4, 2000)).reshape(1, 1, 4, 2000, 1)
    drawn = augment.binarize_rows(jax.random.split(jax.random.key(0), 1), images)[0, 0, :, :, 0]
    assert set(np.unique(drawn)) == {0.0, 1.0}
    np.testing.assert_allclose(drawn.mean(1), [0, 0.25, 0.5, 1], atol=0.04)
    assert drawn[0].max() == 0 and drawn[3].min() == 1


def test_dihedral_copies_are_classes(dataset):
    image = jnp.asarray(np.random.default_rng(0).random((5, 5, 1)))
    copies = [np.asarray(augment.dihedral(image, jnp.array(turn))) for turn in range(8)]
    np.testing.assert_array_equal(copies[0], image)
    expected = {np.rot90(x, k).tobytes() for k in range(4) for x in (np.asarray(image), np.asarray(image)[:, ::-1])}
    assert {copy.tobytes() for copy in copies} == expected and len(expected) == 8
    batch = sample(dataset.on_device(), jax.random.key(0), SetSpec(rows=48, low=2, high=2, dihedral=True))
    assert sorted(np.asarray(batch.label)) == list(range(800, 848))
    np.testing.assert_array_equal(batch.class_size, SIZES[np.asarray(batch.label) // 8 - 100])
    corner = np.asarray(batch.images).max(1)[..., 0].reshape(48, -1).argmax(1)
    assert len({(int(x), int(turn)) for x, turn in zip(corner, np.asarray(batch.label) % 8, strict=True)}) == 8


def test_warp_rotates_about_the_centre():
    image = jnp.asarray(np.random.default_rng(0).random((7, 7, 2)), jnp.float32)
    same = augment.warp(image, jnp.eye(2), jnp.zeros(2))
    np.testing.assert_allclose(same, image, atol=1e-6)
    quarter = augment.warp(image, jnp.array([[0.0, -1.0], [1.0, 0.0]]), jnp.zeros(2))
    np.testing.assert_allclose(quarter, np.rot90(image, -1), atol=1e-5)
    moved = augment.warp(image, jnp.eye(2), jnp.array([1 / 7, 0.0]))
    np.testing.assert_allclose(moved[:-1], image[1:], atol=1e-5)


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


def test_what_is_off_costs_nothing(dataset):
    spec = SetSpec(rows=4, low=3, high=3)
    text = str(
        jax.make_jaxpr(lambda t, k: augment.augment_rows(k, t, jnp.zeros(4, int), spec))(
            jnp.zeros((4, 3, 8, 8, 1)), jax.random.split(jax.random.key(0), 4)
        )
    )
    assert "random" not in text and "gather" not in text and "select" not in text


def test_spec_from_config(config):
    spec = SetSpec.from_config(config)
    assert hash(spec) == hash(SetSpec.from_config(config))
    assert (spec.rows, spec.low, spec.high, spec.binarize) == (16, 5, 5, "dynamic")
    with config.ignore_type():
        config.set_size = (2, 20)
    assert (SetSpec.from_config(config).low, SetSpec.from_config(config).high) == (2, 20)
    config.binarize = "dynamical"
    with pytest.raises(DataError, match="Did you mean 'dynamic'"):
        SetSpec.from_config(config)
    config.update(binarize="none", sets_per_batch=0)
    with pytest.raises(DataError, match="sets_per_batch"):
        SetSpec.from_config(config)


def test_fixed_sets_cut_each_class_once(dataset):
    batch = fixed_sets(dataset, 3, 0, seed=0, binarize="none")
    kind, member = content(batch)
    assert batch.images.dtype == np.float32 and batch.mask.all()
    np.testing.assert_array_equal(member, batch.member)
    np.testing.assert_array_equal(kind, np.repeat(batch.label[:, None] - 100, 3, 1))
    assert sorted(batch.label) == sorted(np.repeat(np.arange(6) + 100, SIZES // 3))
    assert len({(k, m) for k, m in zip(kind.ravel(), member.ravel(), strict=True)}) == kind.size
    assert len(set(batch.label[:6])) == 6  # round-robin: every class before any twice


def test_fixed_sets_are_deterministic_and_a_prefix(dataset):
    whole, few = fixed_sets(dataset, 3, 0, 1), fixed_sets(dataset, 3, 4, 1)
    chex.assert_trees_all_equal(few, jax.tree.map(lambda x: x[:4], whole))
    chex.assert_trees_all_equal(whole, fixed_sets(dataset, 3, 0, 1))
    assert (fixed_sets(dataset, 3, 0, 2).images != whole.images).any()
    assert set(np.unique(whole.images)) == {0.0, 1.0} and (whole.images[:, :, 0, 1] == 1).all()


def test_an_images_binarisation_does_not_depend_on_its_set(dataset):
    drawn = {}
    for set_size in (2, 3):
        batch = fixed_sets(dataset, set_size, 0, 0)
        for label, members, images in zip(batch.label, batch.member, batch.images, strict=True):
            for member, image in zip(members, images, strict=True):
                np.testing.assert_array_equal(image, drawn.setdefault((label, member), image))


def test_fixed_sets_of_small_classes_are_masked(dataset):
    batch = fixed_sets(dataset, 8, 0, 0)
    np.testing.assert_array_equal(batch.mask.sum(1), SIZES[batch.label - 100])
    assert (batch.member[~batch.mask] == -1).all() and (batch.images[~batch.mask] == 0).all()
    with pytest.raises(DataError, match="largest class .* has 8"):
        fixed_sets(dataset, 9, 0, 0)


def test_independent_pixel_nll(dataset):
    images = np.zeros((4, 2, 1, 1), np.uint8)
    images[:2, 0] = 255
    train = Dataset(images, *[np.zeros(1, np.int32)] * 4, info={})
    expected = np.log(2) - np.log(0.9)  # a pixel of mean 1/2, and one never set: (0 + 1/2) / (4 + 1)
    np.testing.assert_allclose(independent_pixel_nll(train, images), expected)
    np.testing.assert_allclose(independent_pixel_nll(train, (images / 255)[:, None]), expected)
