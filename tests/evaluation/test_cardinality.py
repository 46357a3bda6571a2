"""NELBO over set sizes: splits, sizes and augmentation are told apart; the augmentation itself."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny_evaluation import changed, is_picture, results_of

from hfsgm_jax.data import SetSpec
from hfsgm_jax.errors import ConfigError, NotApplicable
from hfsgm_jax.evaluation import Evaluation, cardinality
from hfsgm_jax.trace import SET


def test_every_split_and_size_as_it_is_and_augmented(tiny_run, capsys):
    *results, figure = results_of(changed(tiny_run, set_sizes=(1, 3, 50)), cardinality.cardinality)
    numbers = {(r["split"], r["set_size"], r["augmented"]): r for r in results}
    assert set(numbers) == {(s, n, a) for s in ("train", "test") for n in (1, 3) for a in (False, True)}
    for (split, size, augmented), record in numbers.items():
        assert record["num_sets"] == 15 / size and record["num_classes"] == 5 and record["standard_error"] > 0
        assert record["available_sets"] == run_classes(tiny_run, split) * (20 // size) and record["estimator"] == "elbo"
        if size > 1:
            increase = record["value"] - numbers[split, 1, augmented]["value"]
            np.testing.assert_allclose(record["parts"]["increase"], increase, rtol=1e-4)
            assert 0 < record["parts"]["increase_error"] < record["standard_error"]
        else:
            assert "increase" not in record["parts"]
        assert 0 < record["parts"]["kl_c"] < record["value"]
        assert record["sha256"] == numbers[split, size, False]["sha256"]
    assert len({record["value"] for record in numbers.values()}) == 8
    said = capsys.readouterr().err
    assert "without held-out images of training classes: no images are held out" in said
    assert "strokes test classes: without sets of [50], which do not divide 3" in said
    assert is_picture(tiny_run, figure)


def run_classes(run, split):
    return run.load(split, run.config.data.source).num_classes


def test_every_size_has_the_same_images(tiny_run):
    """Sets of ragged classes are whole ones too, and sizes that share no multiple within a class are left out."""
    dataset, sizes = tiny_run.load(), (1, 2, 3, 5)
    dataset = dataclasses.replace(dataset, size=np.array([5, 20] + [12] * (dataset.num_classes - 2)))
    whole = cardinality.sets_to_cut(changed(tiny_run, max_sets=0), tiny_run.load(), (1, 2, 5))
    for size in (1, 2, 5):
        sets = cardinality.cut(whole, size)
        np.testing.assert_array_equal(sets.images.reshape(whole.images.shape), whole.images)
        assert sets.images.shape[1] == size and (np.unique(sets.ids[SET], return_counts=True)[1] == 20 // size).all()
    assert whole.num_slots == 10 and whole.observed.all()
    ragged = cardinality.sets_to_cut(changed(tiny_run, max_sets=0), dataset, sizes)
    assert ragged.num_slots == 15 and ragged.observed.all() and ragged.num_rows == 1
    assert list(map(len, (np.unique(whole.ids[SET]), np.unique(ragged.ids[SET])))) == [tiny_run.load().num_classes, 1]


def test_heldout_images_are_a_split_of_their_own_as_far_as_they_go(tiny_run):
    run = changed(tiny_run, {"data.heldout": 2}, set_sizes=(2, 5))
    splits = cardinality._splits(run)
    assert list(splits) == ["training images", "held-out images of training classes", "strokes test classes"]
    assert [cardinality.sets_to_cut(run, x, (2, 5)).num_slots for x in splits.values()] == [10, 2, 10]
    assert list(cardinality._splits(changed(tiny_run, split="train"))) == ["training images"]


def test_a_model_without_context_is_refused(vae_run):
    with pytest.raises(NotApplicable, match="'vae' has none"):
        next(cardinality.cardinality(vae_run))


def test_sets_of_ragged_classes(tiny_run, monkeypatch):
    """Sets may be whole smaller classes."""
    ragged = dataclasses.replace(tiny_run.load(), size=np.array([2, 6]))
    monkeypatch.setattr(Evaluation, "load", lambda self: ragged)
    for size in (0, 2, 6):
        changed(tiny_run, set_size=size).check_sets()
    with pytest.raises(ConfigError, match="the largest class of strokes .test. has 6 images"):
        changed(tiny_run, set_size=7).check_sets()


TURN = SetSpec(rows=1, low=1, high=1, flip=True, rotate=cardinality.DEGREES)


def test_augmented_sets_are_the_fixed_ones_turned(tiny_run):
    run = changed(tiny_run, max_sets=12)
    plain, sets = run.fixed_sets(run.load(), 3), cardinality.augmented_sets(run, run.load(), 3)
    np.testing.assert_array_equal(sets.member, plain.member)
    assert set(np.unique(sets.images)) == {0, 1}
    again = cardinality.augmented_sets(changed(run, seed=1), run.load(), 3)
    assert (again.images != sets.images).any()
    # A rotation keeps area, but for the corners.
    np.testing.assert_allclose(sets.images.mean(), plain.images.mean(), rtol=0.2)


def test_the_augmentation_is_a_rotation_about_the_centre_with_nothing_around():
    """A full image keeps its inner circle, loses corners, and never gains ink outside."""
    images = np.ones((64, 2, 28, 28, 1), np.float32)
    out = np.asarray(cardinality._augment(jax.random.split(jax.random.key(0), 64), images, TURN))
    np.testing.assert_allclose(out[:, 0], out[:, 1], atol=1e-5)  # one rotation per set
    row, column = np.mgrid[:28, :28] - 13.5
    np.testing.assert_allclose(out[:, :, np.hypot(row, column) < 13], 1, atol=1e-5)
    assert (out[:, 0, 0, 0, 0] == 0).mean() > 0.5 and out.min() >= 0 and out.max() <= 1


def test_all_angles_and_flips_occur():
    arrow = np.zeros((1, 1, 28, 28, 1), np.float32)
    arrow[0, 0, 2:6, 13:15] = 1  # above the centre
    arrow[0, 0, 2:4, 15:19] = 1  # a flag to its right
    keys = jax.random.split(jax.random.key(1), 400)
    out = np.asarray(cardinality._augment(keys, np.repeat(arrow, 400, 0), TURN))[:, 0, :, :, 0]
    row, column = np.mgrid[:28, :28] - 13.5
    mass = out.sum((1, 2))
    angle = np.arctan2((out * row).sum((1, 2)) / mass, (out * column).sum((1, 2)) / mass)
    counts, _ = np.histogram(angle, 8, (-np.pi, np.pi))
    assert counts.min() > 25, counts  # 50 expected
