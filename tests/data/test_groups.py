"""Images of a class's group (alphabet) beside each set: where they are from, how many there are, and without groups."""

import functools

import chex
import jax
import numpy as np
import pytest

from hfsgm_jax.data import Dataset, SetSpec, fixed_sets, load_dataset, sample_sets
from hfsgm_jax.errors import DataError

SIZES = np.array([6, 3, 8, 5, 7, 6])
GROUPS = np.array([1, 2, 1, 2, 2, 0])  # not sorted as the classes are
IN_GROUP = np.array([6, 14, 15])


@pytest.fixture(scope="module")
def dataset():
    """Six classes in three groups; the pixels of image i of class k hold 20 k + i."""
    values = np.concatenate([20 * k + np.arange(n) for k, n in enumerate(SIZES)])
    images = np.broadcast_to(values[:, None, None], (len(values), 2, 2))
    return Dataset.from_arrays(images, np.repeat(np.arange(6), SIZES), np.repeat(GROUPS, SIZES))


@functools.partial(jax.jit, static_argnums=2)
def sample(table, key, spec):
    return sample_sets(table, key, spec)


def content(sets):
    """Class and member that the pixels of each slot tell."""
    value = np.rint(np.asarray(sets.images[..., 0, 0, 0]) * 255).astype(int)
    return value // 20, value % 20


@pytest.mark.parametrize("targets", [0, 2])
def test_slots_hold_images_of_the_set_then_its_group_then_the_targets(dataset, targets):
    spec = SetSpec(rows=6, low=2, high=2, group_size=7, targets=targets, copies=3)
    sets = sample(dataset.table(), jax.random.key(0), spec)
    chex.assert_shape(sets.images, (6, 9 + targets, 2, 2, 1))
    kind, member = content(sets)
    label = np.asarray(sets.ids["set"])
    np.testing.assert_array_equal(sets.ids["group"], GROUPS[label])
    assert (GROUPS[kind[:, 2:9]] == GROUPS[label][:, None]).all()
    assert (kind[:, 2:9] != label[:, None]).any()  # other characters of the alphabet among them
    own = np.r_[0:2, 9 : 9 + targets]
    assert (kind[:, own] == label[:, None]).all() and (member[:, own] == sets.member[:, own]).all()
    assert (np.asarray(sets.member[:, 2:9]) == -1).all()
    slot = np.arange(9 + targets)
    np.testing.assert_array_equal(sets.context["set"], np.tile(slot < 2, (6, 1)))
    np.testing.assert_array_equal(sets.context["group"], np.tile((slot >= 2) & (slot < 9), (6, 1)))
    np.testing.assert_array_equal(sets.target, np.tile(slot >= 9 if targets else slot < 2, (6, 1)))
    np.testing.assert_array_equal(sets.sizes["group"], 3 * IN_GROUP[sets.ids["group"]])
    np.testing.assert_array_equal(sets.sizes["set"], 3 * SIZES[label])


def test_images_of_a_group_are_uniform_and_drawn_with_replacement(dataset):
    spec, table = SetSpec(rows=6, low=1, high=1, group_size=20), dataset.table()
    sets = jax.jit(jax.vmap(lambda key: sample_sets(table, key, spec)))(jax.random.split(jax.random.key(2), 300))
    kind, member = content(sets)
    single = np.asarray(sets.ids["group"]) == 0  # one class of six images: 20 slots repeat them
    counts = np.bincount(member[single][:, 1:].ravel(), minlength=6)
    np.testing.assert_allclose(counts / counts.sum(), 1 / 6, atol=0.02)
    of_first = np.asarray(sets.ids["set"]) == 0  # the row's class does not matter: classes 0 and 2 by their sizes
    np.testing.assert_allclose((kind[of_first][:, 1:] == 2).mean(), 8 / 14, atol=0.02)


def test_the_group_level_changes_nothing_else(dataset):
    """The same classes, contexts and targets as without it."""
    table, key = dataset.table(), jax.random.key(3)
    spec = SetSpec(4, 1, 3, targets=2, group_size=3)
    without, sets = sample(table, key, SetSpec(rows=4, low=1, high=3, targets=2)), sample(table, key, spec)
    np.testing.assert_array_equal(sets.ids["set"], without.ids["set"])
    fixed = fixed_sets(dataset, 3, 0, seed=0, binarize="none")
    np.testing.assert_array_equal(fixed.sizes["group"], IN_GROUP[fixed.ids["group"]])


def test_a_source_without_groups_is_refused(config, write_npz):
    config.update(source="npz", path=write_npz(), group_size=5)
    with pytest.raises(DataError, match="data.group_size=5.*one group.*use 0"):
        load_dataset(config, "train")
    groups = np.array(["x", "y"] * 5).repeat(6)
    config.path = write_npz(name="grouped.npz", groups=groups)
    assert set(load_dataset(config, "train").group) == {0, 1}
