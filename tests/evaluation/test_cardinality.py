"""NELBO over set sizes: splits, sizes and augmentation are told apart; the augmentation itself."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny_evaluation import changed, is_picture, results_of

from hfsgm_jax.errors import ConfigError, NotApplicable
from hfsgm_jax.evaluation import cardinality


def test_every_split_and_size_as_it_is_and_augmented(tiny_run, capsys):
    *results, figure = results_of(tiny_run, cardinality.cardinality)
    numbers = {(r["split"], r["set_size"], r["augmented"]): r for r in results}
    assert set(numbers) == {(s, n, a) for s in ("train", "test") for n in (1, 3) for a in (False, True)}
    for (split, size, _), record in numbers.items():
        assert record["num_sets"] == 5 and record["standard_error"] > 0 and record["estimator"] == "elbo"
        assert 0 < record["parts"]["kl_c"] < record["value"]
        assert record["sha256"] == numbers[split, size, False]["sha256"]
    assert len({record["value"] for record in numbers.values()}) == 8
    assert "data.heldout=0" in capsys.readouterr().err
    assert is_picture(tiny_run, figure)


def test_heldout_images_are_a_split_of_their_own_as_far_as_they_go(tiny_run):
    run = changed(tiny_run, {"data.heldout": 2}, set_sizes=(2, 5))
    splits = cardinality._splits(run)
    assert list(splits) == ["training images", "held-out images of training classes", "strokes test classes"]
    assert [cardinality.sizes_of(dataset, (2, 5)) for dataset in splits.values()] == [[2, 5], [2], [2, 5]]
    assert list(cardinality._splits(changed(tiny_run, split="train"))) == ["training images"]


def test_what_it_cannot_do_is_refused(tiny_run, vae_run):
    with pytest.raises(ConfigError, match=r"eval.set_sizes asks for sets of 50 .* has 20 images"):
        next(cardinality.cardinality(changed(tiny_run, set_sizes=(1, 50))))
    with pytest.raises(NotApplicable, match="'vae' has none"):
        next(cardinality.cardinality(vae_run))


def test_sets_of_ragged_classes(tiny_run):
    """Asked for or not, sets may be whole smaller classes; those of ``set_sizes`` may not."""
    ragged = dataclasses.replace(tiny_run.load(), size=np.array([2, 6]))
    for size in (0, 2, 6):
        changed(tiny_run, set_size=size).check_sets(ragged)
    with pytest.raises(ConfigError, match="the largest class of strokes .test. has 6 images; use --eval.set_size of 6"):
        changed(tiny_run, set_size=7).check_sets(ragged)
    with pytest.raises(ConfigError, match="eval.set_sizes asks for sets of 4 images.*smallest class"):
        tiny_run.check_sets(ragged, (1, 4))


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
    out = np.asarray(cardinality._augment(jax.random.split(jax.random.key(0), 64), images, "none"))
    np.testing.assert_allclose(out[:, 0], out[:, 1], atol=1e-5)  # one rotation per set
    row, column = np.mgrid[:28, :28] - 13.5
    np.testing.assert_allclose(out[:, :, np.hypot(row, column) < 13], 1, atol=1e-5)
    assert (out[:, 0, 0, 0, 0] == 0).mean() > 0.5 and out.min() >= 0 and out.max() <= 1


def test_all_angles_and_flips_occur():
    arrow = np.zeros((1, 1, 28, 28, 1), np.float32)
    arrow[0, 0, 2:6, 13:15] = 1  # above the centre
    arrow[0, 0, 2:4, 15:19] = 1  # a flag to its right
    keys = jax.random.split(jax.random.key(1), 400)
    out = np.asarray(cardinality._augment(keys, np.repeat(arrow, 400, 0), "none"))[:, 0, :, :, 0]
    row, column = np.mgrid[:28, :28] - 13.5
    mass = out.sum((1, 2))
    angle = np.arctan2((out * row).sum((1, 2)) / mass, (out * column).sum((1, 2)) / mass)
    counts, _ = np.histogram(angle, 8, (-np.pi, np.pi))
    assert counts.min() > 25, counts  # 50 expected
