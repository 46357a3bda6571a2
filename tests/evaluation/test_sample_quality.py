"""Features, the classifier, and numbers of samples: of real images, copies, one image over and over, other classes."""

import itertools

import numpy as np
import pytest

from hfsgm_jax.data import strokes
from hfsgm_jax.evaluation.sample_quality import Judge, chance_of_right, features, judged, recogniser

CLASSES, CONTEXT, OTHERS, WAYS = 12, 4, 8, 5


@pytest.fixture(scope="module")
def images():
    """``[CLASSES, 16, 28, 28, 1]``: contexts, others, and four that the judge does not see."""
    drawn = strokes.draw(num_classes=CLASSES, num_images=CONTEXT + OTHERS + 4, image_size=28, seed=5)
    return (drawn / 255 > 0.5).astype(np.float32)


@pytest.fixture(scope="module")
def judge(images):
    known = images[:, : CONTEXT + OTHERS]
    return Judge(known, np.ones(known.shape[:2], bool), CONTEXT, WAYS)


def values(judge, draws):
    return {name: found["value"] for name, found in judge.measure(draws).items()}


def test_features_are_of_shape_not_of_contrast(images):
    found = features(images)
    assert found.shape == (CLASSES, 16, 7 * 7 * 8)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, rtol=1e-5)
    np.testing.assert_allclose(features(0.5 * images), found, atol=1e-6)
    apart = lambda x: np.linalg.norm(features(x) - found, axis=-1).mean()
    assert apart(np.roll(images, 1, (2, 3))) < 0.5 * apart(np.roll(images, 1, 0))
    assert (features(np.zeros((2, 28, 28, 1))) == 0).all()


def test_features_of_colours_and_other_sizes():
    images = np.random.default_rng(0).uniform(size=(2, 32, 32, 3))
    found = features(images)
    assert found.shape == (2, 3 * 7 * 7 * 8)
    assert np.abs(features(images[..., ::-1]) - found).max() > 1e-3  # which channel an edge is in tells


def test_edges_of_each_direction():
    """Ink to the right: its gradient points right, the first direction; turned by 90 degrees, two further on."""
    image = np.zeros((28, 28, 1))
    image[:, 14:] = 1
    for turns in range(4):
        strength = features(np.rot90(image, -turns)).reshape(7 * 7, 8).sum(0)
        assert strength.argmax() == 2 * turns and strength.max() > 0.9 * strength.sum()


@pytest.mark.parametrize("classes", [10, 2])
def test_unseen_drawings_are_named(images, classes):
    found = features(images[:classes])
    seen, unseen = np.concatenate(found[:, :10]), found[:, 10:]
    scores = recogniser(seen, np.repeat(np.arange(classes), 10))(unseen)
    assert scores.shape == (classes, 6, classes)
    assert (scores.argmax(-1) == np.arange(classes)[:, None]).mean() > 0.9


def test_chance_of_right_is_the_mean_over_all_groups():
    classes, ways = 6, 3
    scores = np.random.default_rng(0).normal(size=(classes, 2, classes))
    label = np.arange(classes)[:, None]
    expected = np.zeros((classes, 2))
    for i, j in itertools.product(range(classes), range(2)):
        groups = itertools.combinations([k for k in range(classes) if k != i], ways - 1)
        expected[i, j] = np.mean([scores[i, j, i] > scores[i, j, list(group)].max() for group in groups])
    np.testing.assert_allclose(chance_of_right(scores, label, ways), expected, atol=1e-12)
    blind = np.zeros((classes, 2, classes))  # who cannot tell is not right
    assert (chance_of_right(blind, label, ways) == 0).all()


def test_real_images_are_the_measure(judge, images):
    found = judge.measure(images[:, CONTEXT + OTHERS :])
    assert list(found) == ["recognised", "diversity", "copying"]
    named, diversity, copying = found.values()
    assert named["value"] > 0.9 and named["parts"]["chance"] == 1 / WAYS and named["parts"]["real_images"] > 0.9
    assert abs(diversity["value"] - 1) < 0.1 and abs(copying["value"] - 1) < 0.1
    assert copying["parts"]["close"] < 0.15
    assert all(0 <= measured["standard_error"] < 0.1 for measured in found.values())


def test_copies_are_found_out(judge, images):
    copying = judge.measure(images[:, :CONTEXT])["copying"]
    assert copying["value"] < 1e-6 and copying["parts"]["close"] == 1
    flips = np.random.default_rng(0).random((CLASSES, CONTEXT, 28, 28, 1)) < 0.02
    noisy = judge.measure(np.abs(images[:, :CONTEXT] - flips))["copying"]
    assert noisy["value"] < 0.75 and noisy["parts"]["close"] > 0.4


def test_one_image_over_and_over_is_not_diverse(judge, images):
    again = values(judge, images[:, -1:].repeat(4, 1))
    assert again["diversity"] < 1e-6 and again["recognised"] > 0.85
    assert list(values(judge, images[:, -1:])) == ["recognised", "copying"]  # one sample has no pairs


def test_other_classes_are_not_recognised(judge, images):
    wrong = values(judge, np.roll(images[:, -4:], 1, 0))
    assert wrong["recognised"] < 0.15 and wrong["copying"] > 1.5 and abs(wrong["diversity"] - 1) < 0.1


def test_ragged_rows_are_judged_by_the_images_there_are(images):
    mask = np.ones((CLASSES, CONTEXT + OTHERS), bool)
    mask[2, CONTEXT + 1 :] = False  # one image beside the context
    mask[5, 1:] = False  # a context of one image
    mask[7, CONTEXT + 2 :] = mask[7, 1:CONTEXT] = False
    rows = judged(mask, CONTEXT)
    assert rows.tolist() == [i for i in range(CLASSES) if i not in (2, 5)]
    found = Judge(images[rows, : CONTEXT + OTHERS], mask[rows], CONTEXT, len(rows)).measure(images[rows, -4:])
    assert found["recognised"]["value"] > 0.8 and np.isfinite(found["copying"]["value"])
