"""The notebook interface on a trained run: shapes, ranges, seeds, and what is refused."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

import hfsgm_jax
from hfsgm_jax.api import FewShotModel
from hfsgm_jax.errors import CheckpointError
from hfsgm_jax.images import model_images


@pytest.fixture(scope="module")
def few(run_folder):
    return hfsgm_jax.load(run_folder)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 2, (3, 28, 28), np.uint8) * 255


@pytest.mark.parametrize("mode", ["conditional", "one_pass", "refined", "unconditional"])
def test_generate(few, images, mode):
    context = None if mode == "unconditional" else images
    settings = dict(num=2, mode=mode, num_iterations=2)
    out = few.generate(context, **settings)
    assert isinstance(out, np.ndarray) and out.dtype == np.float32 and out.shape == (2, 28, 28, 1)
    assert 0 <= out.min() and out.max() <= 1 and len(np.unique(out)) > 2
    np.testing.assert_array_equal(few.generate(context, **settings), out)
    assert np.abs(few.generate(context, **settings, seed=1) - out).max() > 0


def test_draws_are_binary_and_temperature_zero_is_the_same_for_all(few, images):
    drawn = few.generate(None, num=2, mode="unconditional", draw=True)
    assert set(np.unique(drawn)) == {0, 1}
    calm = few.generate(images, num=2, temperature=0.0)
    np.testing.assert_allclose(calm[0], calm[1], atol=1e-6)
    np.testing.assert_allclose(few.generate(images, num=2, temperature=0.0, seed=1), calm, atol=1e-6)


def test_log_likelihood_and_embed(few, images):
    value = few.log_likelihood(images, num_samples=3)
    assert isinstance(value, float) and -3 * 28 * 28 < value < 0
    assert few.log_likelihood(images / 255.0, num_samples=3) == value  # uint8 or float
    assert few.log_likelihood(images[..., None] > 0, num_samples=3) == value
    embedding = few.embed(images)
    assert embedding.shape == (2 * (1 + 8 * 8),)  # c_2 at 1x1, c_1 at 8x8, two channels
    np.testing.assert_allclose(few.embed(images[::-1]), embedding, atol=1e-6)
    assert few.embed(images[:1]).shape == embedding.shape


def test_copies_and_processes_take_it_along(few, images):
    there = pickle.loads(pickle.dumps(few))
    np.testing.assert_array_equal(there.embed(images), few.embed(images))


def test_classify(few, images):
    few_images = {"dense": np.ones((1, 28, 28)), "as given": images}
    settings = dict(num_samples=2, num_samples_z=2)
    labels, log_probs = few.classify(few_images, images, **settings)
    assert log_probs.shape == (3, 2) and log_probs.dtype == np.float32
    np.testing.assert_allclose(np.exp(log_probs).sum(1), 1, rtol=1e-5)
    assert labels == [list(few_images)[best] for best in log_probs.argmax(1)]
    again = few.classify(dict(reversed(few_images.items())), images / 255.0, **settings)[1]
    np.testing.assert_allclose(again[:, ::-1], log_probs, rtol=1e-4, atol=1e-4)
    assert np.abs(few.classify(few_images, images, **settings, seed=1)[1] - log_probs).max() > 0


def test_classify_says_what_it_needs(few, images):
    for supports, queries, settings, message in [
        ({"a": images}, images, {}, "2 or more classes, as {name: images}, not 1 class"),
        ([images, images], images, {}, "not list"),
        ({"a": images, "b": images[:, :9]}, images, {}, r"class 'b': images of shape \[3, 9, 28\].*resize=True"),
        ({"a": images, "b": images[:0]}, images, {}, "class 'b': .*N at least 1"),
        ({"a": images, "b": images}, images[0], {}, r"queries: images of shape \[28, 28\]"),
        ({"a": images, "b": images}, images, dict(num_samples=0), "num_samples=0: .*at least 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            few.classify(supports, queries, **settings)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((3, 32, 32), np.uint8), r"shape \[3, 32, 32\].*takes \[N, 28, 28, 1\] or \[N, 28, 28\].*resize=True"),
        (np.zeros((3, 28, 28, 3)), r"shape \[3, 28, 28, 3\]"),
        (np.zeros((28, 28)), r"shape \[28, 28\]"),
        (np.zeros((0, 28, 28)), r"N at least 1"),
        (np.zeros((1, 28, 28), np.int64), "dtype int64.*uint8 in 0..255 or float"),
        (np.full((1, 28, 28), 200.0), "from 200 to 200"),
        (np.full((1, 28, 28), np.nan), "from nan"),
        (-np.ones((1, 28, 28)), "from -1"),
        ([np.zeros((28, 28)), np.zeros((30, 30))], "do not have one shape"),
    ],
)
def test_other_images_are_refused(few, given, message):
    for method in (few.generate, few.log_likelihood, few.embed):
        with pytest.raises(ValueError, match=message):
            method(given)


def test_ones_among_whole_numbers_are_ink():
    assert model_images(np.ones((1, 28, 28), np.uint8), (28, 28, 1)).max() == 1


def test_resize_converts_size_and_channels():
    white = np.full((2, 56, 60, 3), 255, np.uint8)
    np.testing.assert_allclose(model_images(white, (28, 28, 1), resize=True), np.ones((2, 28, 28, 1)))
    assert model_images(np.zeros((1, 10, 10)), (32, 32, 3), resize=True).shape == (1, 32, 32, 3)
    with pytest.raises(ValueError, match="1 .grey. and 3 channels"):
        model_images(np.zeros((1, 10, 10, 4)), (32, 32, 3), resize=True)


def test_arguments_are_checked(few, images):
    for settings, message in [
        (dict(mode="refind"), "mode='refind' is not one of.*'refined'"),
        (dict(num=0), "at least 1"),
        (dict(num=1.5), "num=1.5: it is a whole number"),
        (dict(seed=10**20), "seed=1000.*whole number of at least 0"),
        (dict(temperature="warm"), "temperature is a number"),
        (dict(temperature=-1.0), "temperature is a number"),
        (dict(temperature={"sets": 1.0}), "temperature is a number"),
        (dict(mode="unconditional"), "pass None"),
    ]:
        with pytest.raises(ValueError, match=message):
            few.generate(images, **settings)
    with pytest.raises(ValueError, match="needs images"):
        few.generate(None)
    with pytest.raises(ValueError, match="num_samples=0"):
        few.log_likelihood(images, num_samples=0)


def test_a_model_without_context_says_so(tiny_vae, images):
    vae = FewShotModel(*tiny_vae)
    for call in (
        lambda: vae.embed(images),
        lambda: vae.classify({"a": images, "b": images}, images),
        *(lambda m=m: vae.generate(images, mode=m) for m in ("conditional", "refined")),
    ):
        with pytest.raises(ValueError, match="needs a context, and a model 'vae' has none"):
            call()


def test_steps_and_folders(run_folder, tmp_path):
    assert hfsgm_jax.load(run_folder, step="last").step == hfsgm_jax.load(str(run_folder), step=2).step == 2
    with pytest.raises(CheckpointError, match="no checkpoint 7; there are"):
        hfsgm_jax.load(run_folder, step=7)
    with pytest.raises(ValueError, match="does not exist"):
        hfsgm_jax.load(tmp_path / "nothing")


def test_loading_needs_no_data_library(run_folder):
    code = (
        "import sys, hfsgm_jax\nassert 'jax' not in sys.modules\n"
        f"hfsgm_jax.load({str(run_folder)!r})\n"
        "assert not {'tensorflow_datasets', 'tensorflow', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_an_exported_model_is_opened_like_a_run(run_folder, few, images, tmp_path):
    out = tmp_path / "small"
    hfsgm_jax.export(run_folder, out, dtype="float32")
    exact = hfsgm_jax.load(out)
    assert exact.step == few.step and exact.image_shape == few.image_shape
    np.testing.assert_array_equal(exact.embed(images), few.embed(images))
    files = hfsgm_jax.export(run_folder, out)  # bfloat16, over the other
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in files)
    assert sum(path.stat().st_size for path in files) < 40_000
    assert 0 < np.abs(hfsgm_jax.load(out).embed(images) - few.embed(images)).max() < 0.1
    few.save(tmp_path / "saved")
    assert hfsgm_jax.load(tmp_path / "saved").drawings == few.drawings == "box"  # of the procedural characters
    with pytest.raises(ValueError, match="of step 2 only, not of 1"):
        hfsgm_jax.load(out, step=1)
    with pytest.raises(ValueError, match="is the folder of a run"):
        hfsgm_jax.export(run_folder, run_folder)
