import numpy as np
import pytest

from hfsgm_jax.data import load_dataset
from hfsgm_jax.data.splits import split_classes
from hfsgm_jax.errors import DataError

NS_TEST = [4, 8, 15, 16, 22]  # the first test classes of `ns`
BACK_EVAL_VAL = [6, 10, 13, 23, 25]  # the first validation classes of `back_eval`


def omniglot_like():
    """Label, group and part of 1,623 classes in 30 background and 20 evaluation alphabets."""
    label = np.arange(1623)
    group = np.where(label < 964, label % 30, 30 + label % 20)
    return label, group, np.where(label < 964, 0, 2)


@pytest.mark.parametrize("scheme", ["ns", "back_eval", "alphabet", "random"])
def test_splits_are_disjoint_and_complete(scheme):
    label, group, part = omniglot_like()
    classes = split_classes(scheme, label, group, part, seed=0)
    np.testing.assert_array_equal(np.sort(np.concatenate(list(classes.values()))), label)
    sizes = {name: len(ids) for name, ids in classes.items()}
    if scheme == "ns":
        assert sizes == dict(train=1000, val=200, test=423)
        assert 0 < (classes["train"] < 964).sum() < 964  # background and evaluation are mixed
    if scheme == "back_eval":
        assert sizes == dict(train=867, val=97, test=659)
        due = np.bincount(group[:964]) * 97 / 964
        assert (np.abs(np.bincount(group[classes["val"]]) - due) < 1).all()  # of every alphabet its share
    if scheme == "alphabet":
        assert not set(group[classes["train"]]) & set(group[classes["val"]])
        assert len(set(group[classes["val"]])) == 5 and sizes["test"] == 659
    if scheme == "random":
        assert sizes == dict(train=1623 - 162 - 325, val=162, test=325)


def test_all_but_the_test_classes_of_ns_are_trained_on_in_vhe_1200():
    ns, vhe = (split_classes(scheme, *omniglot_like(), seed=0) for scheme in ("ns", "vhe_1200"))
    np.testing.assert_array_equal(vhe["test"], ns["test"])
    np.testing.assert_array_equal(vhe["train"], np.setdiff1d(np.arange(1623), ns["test"]))
    np.testing.assert_array_equal(vhe["val"], ns["val"])


def test_splits_never_change():
    label, group, part = omniglot_like()
    for seed in (0, 1):
        for scheme, name, first in (("ns", "test", NS_TEST), ("back_eval", "val", BACK_EVAL_VAL)):
            assert split_classes(scheme, label, group, part, seed)[name][:5].tolist() == first
    a, b = (split_classes("random", label, group, part, seed)["test"] for seed in (0, 1))
    assert set(a) != set(b)


def test_random_split_of_few_classes():
    classes = np.arange(3)
    sizes = {name: len(ids) for name, ids in split_classes("random", classes, classes, classes * 0, 0).items()}
    assert sizes == dict(train=1, val=1, test=1)
    for scheme, count, message in (
        ("random", 2, "needs 3, there are 2"),
        ("ns", 3, "1623"),
        ("vhe_faces", 3, "needs 643, there are 3; data.split=random"),
    ):
        with pytest.raises(DataError, match=message):
            split_classes(scheme, classes[:count], classes[:count] * 0, classes[:count] * 0, 0)


def test_a_new_class_moves_few_others():
    names = [f"name{i}" for i in range(50)]
    parts = []
    for there in (names, ["aaa", *names]):
        label = np.arange(len(there))
        found = split_classes("random", label, label * 0, label * 0, 0, there)
        parts.append({name: {there[i] for i in ids} for name, ids in found.items()})
    assert all(len(parts[0][name] - parts[1][name]) <= 1 for name in parts[0])


@pytest.mark.parametrize(("scheme", "classes", "test"), [("vhe_faces", 1595, 641), ("vhe_silhouettes", 101, 10)])
def test_counts_of_the_vhe_papers_other_data(scheme, classes, test):
    label = np.arange(classes)
    found = split_classes(scheme, label, label, label * 0, 0)
    assert len(found["test"]) == test and np.array_equal(np.union1d(found["train"], found["test"]), label)
    assert np.isin(found["val"], found["train"]).all() and not np.isin(found["train"], found["test"]).any()


def test_heldout_images_leave_training(config, write_npz):
    config.update(source="npz", path=write_npz())
    everything = load_dataset(config, "train")
    with pytest.raises(DataError, match="data.heldout"):
        load_dataset(config, "heldout")
    config.update(heldout=2, set_size=4)
    train, heldout = load_dataset(config, "train"), load_dataset(config, "heldout")
    assert (train.size == 4).all() and (heldout.size == 2).all()
    np.testing.assert_array_equal(train.label, heldout.label)
    joined = np.concatenate([x.images.reshape(-1, n, 28, 28, 1) for x, n in ((train, 4), (heldout, 2))], axis=1)
    np.testing.assert_array_equal(joined.reshape(everything.images.shape), everything.images)
    assert (load_dataset(config, "val").size == 6).all()
