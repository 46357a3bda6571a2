"""Recognising images: features forgive shifts and contrast, and the classifier's accuracy is exact."""

import itertools

import numpy as np
import pytest

from hfsgm_jax.data import strokes
from hfsgm_jax.evaluation.recognise import Recogniser, chance_of_right, features


@pytest.fixture(scope="module")
def characters():
    """``[10, 8, 28, 28, 1]`` drawings of ten classes."""
    return strokes.draw(num_classes=10, num_images=8, image_size=28, seed=3) / 255


def test_features_are_of_shape_not_of_contrast(characters):
    found = features(characters)
    assert found.shape == (10, 8, 7 * 7 * 8)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, rtol=1e-5)
    np.testing.assert_allclose(features(0.5 * characters), found, atol=1e-6)
    apart = lambda x: np.linalg.norm(features(x) - found, axis=-1).mean()  # noqa: E731
    shifted = np.roll(characters, 1, (2, 3))
    others = np.roll(characters, 1, 0)
    assert apart(shifted) < 0.5 * apart(others)
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
        turned = features(np.rot90(image, -turns)).reshape(7 * 7, 8)
        strength = turned.sum(0)
        assert strength.argmax() == 2 * turns and strength.max() > 0.9 * strength.sum()


def test_unseen_drawings_are_named(characters):
    found = features(characters)
    for classes in (10, 2):
        seen, unseen = found[:classes, :5], found[:classes, 5:]
        recogniser = Recogniser(seen.reshape(-1, seen.shape[-1]), np.repeat(np.arange(classes), 5))
        scores = recogniser.scores(unseen)
        assert scores.shape == (classes, 3, classes)
        assert (scores.argmax(-1) == np.arange(classes)[:, None]).mean() > 0.9


def test_chance_of_right_is_the_mean_over_all_groups():
    classes, ways = 6, 3
    scores = np.random.default_rng(0).normal(size=(classes, 2, classes))
    truth = np.arange(classes)[:, None]
    expected = np.zeros((classes, 2))
    for i, j in itertools.product(range(classes), range(2)):
        groups = itertools.combinations([k for k in range(classes) if k != i], ways - 1)
        expected[i, j] = np.mean([scores[i, j, i] > scores[i, j, list(group)].max() for group in groups])
    np.testing.assert_allclose(chance_of_right(scores, truth, ways), expected, atol=1e-12)
    blind = np.zeros((classes, 2, classes))  # who cannot tell is not right
    assert (chance_of_right(blind, truth, ways) == 0).all()
