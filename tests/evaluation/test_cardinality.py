"""NELBO over set sizes: splits, sizes and augmentation are told apart; the augmentation itself."""

import jax
import numpy as np
import pytest
from tiny_evaluation import evaluation_of
from tiny_model import tiny_config

from hfsgm_jax.evaluation import Evaluation, EvaluationError, NotApplicable, cardinality
from hfsgm_jax.evaluation.run import evaluate


def test_every_split_and_size_as_it_is_and_augmented(run_folder, capsys):
    outcome = evaluate(evaluation_of(run_folder, set_sizes=(1, 3)), ["cardinality"])
    records = outcome.results["cardinality"]
    numbers = {(r["split"], r["set_size"], r["augmented"]): r for r in records if r["name"] == "nelbo"}
    assert set(numbers) == {(s, n, a) for s in ("train", "test") for n in (1, 3) for a in (False, True)}
    for (split, size, _), record in numbers.items():
        assert record["num_sets"] == 5 and record["standard_error"] > 0 and record["estimator"] == "elbo"
        assert 0 < record["parts"]["kl_c"] < record["value"] < 28 * 28
        assert record["sha256"] == numbers[split, size, False]["sha256"]
    assert len({record["value"] for record in numbers.values()}) == 8
    assert "data.heldout=0" in capsys.readouterr().out
    (picture,) = records[-1]["pictures"]
    assert (run_folder / picture).read_bytes().startswith(b"\x89PNG")


def test_heldout_images_are_a_split_of_their_own_as_far_as_they_go(run_folder, capsys):
    evaluation = evaluation_of(run_folder, {"data.heldout": 2}, set_sizes=(2, 5))
    splits = cardinality._splits(evaluation)
    assert [name for name, _ in splits] == [
        "training images",
        "held-out images of training classes",
        "strokes test classes",
    ]
    assert [cardinality._sizes(evaluation, dataset) for _, dataset in splits] == [[2, 5], [2], [2, 5]]
    assert "heldout: no sets of more than 2 images" in capsys.readouterr().out


def test_a_split_of_training_is_not_evaluated_twice(run_folder):
    splits = cardinality._splits(evaluation_of(run_folder, split="train"))
    assert [name for name, _ in splits] == ["training images"]


def test_what_it_cannot_do_is_refused(run_folder, tiny_vae):
    with pytest.raises(EvaluationError, match=r"eval.set_sizes asks for sets of 50 .* has 20 images"):
        cardinality.check(evaluation_of(run_folder, set_sizes=(1, 50)))
    config = tiny_config()
    config.model.name = "vae"
    with pytest.raises(NotApplicable, match="'vae' has none"):
        cardinality.check(Evaluation("nowhere", config, tiny_vae[1], None, 0))


def test_augmented_sets_are_the_fixed_ones_turned_alike_within_a_set(run_folder):
    evaluation = evaluation_of(run_folder, max_sets=12)
    plain = evaluation.fixed_sets(evaluation.dataset, 3)
    batch = cardinality.augmented_sets(evaluation, evaluation.dataset, 3)
    np.testing.assert_array_equal(batch.member, plain.member)
    assert set(np.unique(batch.images)) == {0, 1}
    again = cardinality.augmented_sets(evaluation, evaluation.dataset, 3)
    np.testing.assert_array_equal(again.images, batch.images)
    other = cardinality.augmented_sets(evaluation_of(run_folder, max_sets=12, seed=1), evaluation.dataset, 3)
    assert (other.images != batch.images).any()
    ink, turned = plain.images.sum((2, 3, 4)), batch.images.sum((2, 3, 4))
    np.testing.assert_allclose(turned.mean(), ink.mean(), rtol=0.2)  # a rotation keeps area, but for the corners


def test_the_augmentation_is_a_rotation_about_the_centre_with_nothing_around():
    """A full image keeps its inner circle, loses corners, and never gains ink outside."""
    images = np.ones((64, 2, 28, 28, 1), np.float32)
    out = np.asarray(cardinality._augment(jax.random.split(jax.random.key(0), 64), images, "none"))
    np.testing.assert_allclose(out[:, 0], out[:, 1], atol=1e-5)  # one rotation per set
    row, column = np.mgrid[:28, :28] - 13.5
    radius = np.hypot(row, column)
    np.testing.assert_allclose(out[:, :, radius < 13], 1, atol=1e-5)
    corner = out[:, 0, 0, 0, 0]
    assert (corner == 0).mean() > 0.5 and out.min() >= 0 and out.max() <= 1


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
