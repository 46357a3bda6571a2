"""Images of a class's group (alphabet) beside each set: where they are from, how many there are, and without groups."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfsgm_jax.data import DataError, Dataset, SetSpec, fixed_sets, load_dataset, sample_sets

SIZES = np.array([6, 3, 8, 5, 7, 6], np.int32)
GROUPS = np.array([4, 9, 4, 9, 9, 7], np.int32)  # ids need not be dense, nor sorted as the classes are
IN_GROUP = {4: 14, 9: 15, 7: 6}


@pytest.fixture(scope="module")
def dataset():
    """Six classes in three groups; the pixels of image i of class k hold 20 k + i."""
    values = np.concatenate([20 * k + np.arange(n) for k, n in enumerate(SIZES)]).astype(np.uint8)
    images = np.broadcast_to(values[:, None, None, None], (len(values), 2, 2, 1)).copy()
    start = (np.cumsum(SIZES) - SIZES).astype(np.int32)
    return Dataset(images, start, SIZES, label=np.arange(6, dtype=np.int32), group=GROUPS, info={"split": "train"})


@functools.partial(jax.jit, static_argnums=2)
def sample(table, key, spec, rows=None):
    return sample_sets(table, key, spec, rows)


def content(batch):
    """Class and member that the pixels of each slot tell."""
    value = np.rint(np.asarray(batch.images[..., 0, 0, 0]) * 255).astype(int)
    return value // 20, value % 20


@pytest.mark.parametrize("targets", [0, 2])
def test_slots_hold_images_of_the_set_then_its_group_then_the_targets(dataset, targets):
    spec = SetSpec(rows=6, low=2, high=2, group_size=7, targets=targets)
    batch = sample(dataset.on_device(), jax.random.key(0), spec)
    chex.assert_shape(batch.images, (6, 9 + targets, 2, 2, 1))
    kind, member = content(batch)
    label = np.asarray(batch.label)
    assert (GROUPS[kind[:, 2:9]] == GROUPS[label][:, None]).all()
    assert (kind[:, 2:9] != label[:, None]).any()  # other characters of the alphabet among them
    own = np.r_[0:2, 9 : 9 + targets]
    assert (kind[:, own] == label[:, None]).all() and (member[:, own] == batch.member[:, own]).all()
    assert (np.asarray(batch.member[:, 2:9]) == -1).all()
    slot = np.arange(spec.num_slots)
    np.testing.assert_array_equal(batch.context["set"], np.tile(slot < 2, (6, 1)))
    np.testing.assert_array_equal(batch.context["group"], np.tile((slot >= 2) & (slot < 9), (6, 1)))
    np.testing.assert_array_equal(batch.target, np.tile(slot >= 9 if targets else slot < 2, (6, 1)))


def test_sizes_are_those_of_group_and_class(dataset):
    spec = SetSpec(rows=6, low=2, high=2, group_size=1, targets=1, copies=3)
    batch = sample(dataset.on_device(), jax.random.key(1), spec)
    np.testing.assert_array_equal(batch.sizes["group"], [3 * IN_GROUP[g] for g in np.asarray(batch.group)])
    np.testing.assert_array_equal(batch.sizes["set"], 3 * SIZES[batch.label])


def test_images_of_a_group_are_uniform_and_drawn_with_replacement(dataset):
    spec, table = SetSpec(rows=6, low=1, high=1, group_size=20), dataset.on_device()
    batches = jax.jit(jax.vmap(lambda key: sample_sets(table, key, spec)))(jax.random.split(jax.random.key(2), 300))
    kind, member = content(batches)
    of_seven = np.asarray(batches.group) == 7  # one class of six images: 20 slots repeat them
    counts = np.bincount(member[of_seven][:, 1:].ravel(), minlength=6)
    np.testing.assert_allclose(counts / counts.sum(), 1 / 6, atol=0.02)
    of_four = np.asarray(batches.label) == 0  # the row's class does not matter: classes 0 and 2 by their sizes
    np.testing.assert_allclose((kind[of_four][:, 1:] == 2).mean(), 8 / 14, atol=0.02)


def test_the_group_level_changes_nothing_else(dataset):
    """The same classes, contexts and targets as without it, and rows that any process can draw alone."""
    table, key = dataset.on_device(), jax.random.key(3)
    spec = SetSpec(rows=4, low=1, high=3, targets=2)
    without, batch = sample(table, key, spec), sample(table, key, SetSpec(4, 1, 3, targets=2, group_size=3))
    np.testing.assert_array_equal(batch.label, without.label)
    rows = jnp.array([2, 0])
    alone = sample(table, key, SetSpec(4, 1, 3, targets=2, group_size=3), rows)
    chex.assert_trees_all_equal(alone, jax.tree.map(lambda x: x[rows], batch))


def test_fixed_sets_know_the_sizes_of_their_groups(dataset):
    batch = fixed_sets(dataset, 3, 0, seed=0, binarize="none")
    np.testing.assert_array_equal(batch.sizes["group"], [IN_GROUP[g] for g in batch.group])
    np.testing.assert_array_equal(batch.sizes["set"], batch.class_size)
    assert batch.context is None and batch.target is None  # every image informs every plate


def test_a_source_without_groups_is_refused(config, write_npz):
    with config.ignore_type():
        config.update(source="npz", path=write_npz(), group_size=5)
    with pytest.raises(DataError, match="data.group_size=5 needs classes of several groups.*group_size=0"):
        load_dataset(config, "train")
    groups = np.repeat(np.arange(10) % 2, 6)
    config.path = write_npz(name="grouped.npz", groups=groups)
    assert set(load_dataset(config, "train").group) == {0, 1}
    config.path = write_npz(name="one.npz", groups=0 * groups)
    with pytest.raises(DataError, match="of one group"):
        load_dataset(config, "train")
    config.update(path=write_npz(name="grouped.npz", groups=groups), group_size=31)
    with pytest.raises(DataError, match="data.group_size=31: the smallest group of the training data has .* images"):
        load_dataset(config, "train")
    config.group_size = -1
    with pytest.raises(DataError, match="group_size=-1"):
        load_dataset(config, "train")
