"""The models that come with the library: they open, draw, classify, and do what their cards say."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage

import hfsgm_jax
from hfsgm_jax.data.resize import resize_images
from hfsgm_jax.shipped import PRETRAINED
from scripts.ship import card

ROOT = Path(__file__).resolve().parent.parent
OMNIGLOT = ROOT.parent / "shared" / "data" / "npz" / "omniglot_evaluation.npz"
pytestmark = pytest.mark.parametrize("name", hfsgm_jax.pretrained())


def test_files(name):
    folder = PRETRAINED / name
    assert {path.name for path in folder.iterdir()} == {"config.json", "weights.msgpack", "files.json", "card.md"}
    assert (folder / "weights.msgpack").stat().st_size < 16e6
    assert (folder / "card.md").read_text() == card(name)  # made from results/NAME


def test_opens_and_draws(name):
    few = hfsgm_jax.load(name)
    character = np.zeros((2, 28, 28), np.uint8)
    character[:, 6:22, 8], character[:, 20, 8:20] = 255, 255
    new = few.generate(character, num=8)
    assert 0.02 < new.mean() < 0.2 and (new.reshape(8, -1).max(1) > 0.9).all()  # strokes in each
    where = new.mean(0)[..., 0]
    near = scipy.ndimage.binary_dilation(character[0] > 0, iterations=3)
    assert where[near].mean() > 3 * where[~near].mean()  # about where the context has them


def test_images_unlike_its_data_are_unlikely(name):
    few = hfsgm_jax.load(name)
    specks = (np.random.default_rng(0).random((2, 28, 28, 1)) > 0.9).astype(np.float32)
    for images in (np.ones_like(specks), specks):
        # Of real characters about -60; -177 by the means of their pixels.
        assert -np.inf < few.log_likelihood(images, num_samples=2) < -177


def test_classifies_as_its_card_says(name):
    if not OMNIGLOT.exists():
        pytest.skip(f"needs the evaluation characters of Omniglot, in {OMNIGLOT}")
    characters, rng = np.load(OMNIGLOT)["images"], np.random.default_rng(0)
    ink = ~characters[rng.choice(len(characters), 10, replace=False), :6]
    few = hfsgm_jax.load(name)
    images = resize_images(255 * ink.reshape(-1, 105, 105, 1).astype(np.uint8), few.drawings, 28, 1)
    members = images.reshape(10, 6, 28, 28, 1)
    supports = {str(i): images[:5] for i, images in enumerate(members)}
    labels, _ = few.classify(supports, members[:, 5], num_samples=2, num_samples_z=1)
    accuracy = np.mean([label == str(i) for i, label in enumerate(labels)])
    records = json.loads((ROOT / "results" / name / "classify.json").read_text())
    told = [r["value"] for r in records if (r["method"], r["shots"], r["classes"]) == ("log_mean", 5, "whole test set")]
    assert accuracy > told[0] - 3 * np.sqrt(told[0] * (1 - told[0]) / 10)  # of 10 queries, and 10 classes
