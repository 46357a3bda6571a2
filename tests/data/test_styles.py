"""Styles: pens, who has which, sets whose target and style images share one, fixed sets, refusals."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfsgm_jax.data import (
    DataError,
    SetSpec,
    draw_sets,
    finish_sets,
    fixed_sets,
    load_dataset,
    sample_sets,
    styles,
)
from hfsgm_jax.data.fixed_sets import pixels_of

STYLES = 4


@pytest.fixture
def styled(config, write_npz):
    """A data section: ten classes of twelve images in four styles."""
    stroke = np.zeros((120, 28, 28), np.uint8)
    for i, image in enumerate(stroke):  # a line whose place tells the image: row 4 + class, from column 4 + member on
        image[4 + i // 12, 4 + i % 12 : 24] = 255
    with config.ignore_type():
        config.update(source="npz", path=write_npz(10, 12, images=stroke), channels=3, binarize="none")
    config.update(styles=STYLES, style_size=6, set_size=3, sets_per_batch=5)
    return config


@functools.partial(jax.jit, static_argnums=2)
def sample(table, key, spec):
    return sample_sets(table, key, spec)


def test_every_pen_draws_its_colour_on_black():
    num = 30
    image = np.zeros((28, 28, 1), np.float32)
    image[14, 4:24] = 1
    drawn = np.asarray(styles.render(np.broadcast_to(image, (num, *image.shape)), np.arange(num), num))
    chex.assert_shape(drawn, (num, 28, 28, 3))
    pens = styles.palette(num)
    np.testing.assert_allclose(drawn[:, 14, 14], pens.colour, atol=0.5 / 255)  # the middle of a stroke is full ink
    assert (drawn[:, 0] == 0).all() and drawn.min() == 0 and drawn.max() <= 1
    np.testing.assert_allclose(255 * drawn, np.rint(255 * drawn), atol=1e-4)
    wide = (drawn.max(-1)[:, :, 14] > 0.3 * pens.colour.max(1)[:, None]).sum(1)
    assert set(wide) >= {1, 3} and wide.max() <= 5
    apart = np.abs(pens.colour[:, None] - pens.colour).max(-1) + np.eye(num)
    assert apart.min() > 0.02 and len(np.unique(pens.width)) == num


def test_strokes_keep_their_width_relative_to_the_image():
    image = np.zeros((28, 28, 1), np.float32)
    image[13:15, 13:15] = 1
    small = styles.render(image, jnp.int32(3), 8)
    large = styles.render(image.repeat(2, 0).repeat(2, 1), jnp.int32(3), 8)
    np.testing.assert_allclose(np.asarray(large).sum(), 4 * np.asarray(small).sum(), rtol=0.15)


def test_who_has_which_style_is_fixed_and_uniform():
    which = styles.assign(9000, 30)
    np.testing.assert_array_equal(which, styles.assign(9000, 30))
    np.testing.assert_allclose(np.bincount(which) / 300, 1, atol=0.25)
    table = styles.on_device(np.array([2, 0, 2, 2, 0], np.int32), 3)
    np.testing.assert_array_equal(table.size, [2, 0, 3])
    draws = jnp.array([[0.0, 0.34, 0.67, 0.999], [0.0, 0.4, 0.5, 0.999]])
    places = styles.same_style(table, jnp.array([2, 0]), draws)
    np.testing.assert_array_equal(places, [[0, 2, 3, 3], [1, 1, 4, 4]])


def test_sets_hold_images_in_their_own_styles_and_the_targets_style(styled):
    dataset, spec = load_dataset(styled, "train"), SetSpec.from_config(styled, 1)
    table, key = dataset.on_device(), jax.random.key(0)
    assert (spec.styles, spec.style_size, spec.num_slots, dataset.info["styles"]) == (STYLES, 6, 10, STYLES)
    batch = sample(table, key, spec)
    drawn = jax.jit(draw_sets, static_argnums=2)(table, key, spec)
    places = np.asarray(drawn.images)
    expected = pixels_of(dataset, places, 0, "none")
    np.testing.assert_allclose(batch.images, expected, atol=1e-6)  # as evaluations see these images
    style = dataset.style[places]
    np.testing.assert_array_equal(batch.style, style[:, -1])
    assert (style[:, 3:9] == style[:, -1:]).all()  # D^s and the target
    assert (style[:, :3] != style[:, -1:]).any()  # D^c in styles of its own
    of = np.repeat(dataset.label, dataset.size)[places]
    assert (of[:, [0, 1, 2, 9]] == np.asarray(batch.label)[:, None]).all()
    assert (of[:, 3:9] != np.asarray(batch.label)[:, None]).any()
    slot = np.arange(10)
    np.testing.assert_array_equal(batch.context["set"], np.tile(slot < 3, (5, 1)))
    np.testing.assert_array_equal(batch.context["style"], np.tile((slot >= 3) & (slot < 9), (5, 1)))
    np.testing.assert_array_equal(batch.target, np.tile(slot == 9, (5, 1)))
    np.testing.assert_array_equal(batch.sizes["style"], np.bincount(dataset.style)[batch.style])
    np.testing.assert_array_equal(batch.sizes["set"], np.full(5, 12))


def test_images_of_a_style_do_not_depend_on_the_row_given_it(styled):
    """D^s is uniform over the style's images, whatever the class and the context."""
    dataset, spec = load_dataset(styled, "train"), SetSpec.from_config(styled, 1)
    table = dataset.on_device()
    drawn = jax.jit(jax.vmap(lambda key: draw_sets(table, key, spec)))(jax.random.split(jax.random.key(1), 600))
    places, style = np.asarray(drawn.images)[..., 3:9], np.asarray(drawn.style)[..., -1]
    size = np.bincount(dataset.style, minlength=STYLES)
    counts = np.bincount(places[style == 1].ravel(), minlength=len(dataset.style))
    assert (counts[dataset.style != 1] == 0).all()
    np.testing.assert_allclose(counts[dataset.style == 1] / counts.sum() * size[1], 1, atol=0.3)


def test_streamed_sets_are_the_same(styled):
    dataset, spec = load_dataset(styled, "train"), SetSpec.from_config(styled, 1)
    table, key = dataset.on_device(), jax.random.key(2)
    drawn = draw_sets(table._replace(images=None), key, spec)
    drawn = drawn._replace(images=dataset.images[np.asarray(drawn.images)])
    whole = sample(table, key, spec)
    chex.assert_trees_all_close(finish_sets(drawn, key, spec), whole, atol=1e-6)


def test_fixed_sets_have_one_style_each(styled):
    dataset = load_dataset(styled, "test")
    batch = fixed_sets(dataset, 3, 0, 0, "none")
    first = dataset.start[np.searchsorted(dataset.label, batch.label)] + batch.member[:, 0]
    np.testing.assert_array_equal(batch.style, dataset.style[first])
    index = dataset.start[np.searchsorted(dataset.label, batch.label)][:, None] + batch.member
    style = np.broadcast_to(batch.style[:, None], index.shape)
    np.testing.assert_array_equal(batch.images, pixels_of(dataset, index, 0, "none", style))
    assert (style != dataset.style[index]).any()
    np.testing.assert_array_equal(batch.sizes["style"], np.bincount(dataset.style)[batch.style])
    assert batch.mask.all() and batch.context is None and batch.target is None


@pytest.mark.parametrize(
    "change,targets,message",
    [
        (dict(styles=1), 1, "at least 2"),
        (dict(style_size=0), 1, "set both"),
        (dict(styles=0), 1, "or neither"),
        (dict(channels=1), 1, "data.channels is 1: use 3"),
        (dict(binarize="dynamic"), 1, "use 'none'"),
        (dict(), 5, "not 5; use objective.name=vhe"),
        (dict(), 0, "not the context"),
    ],
)
def test_keys_that_do_not_fit_are_refused(styled, change, targets, message):
    styled.update(change)
    with pytest.raises(DataError, match=message):
        SetSpec.from_config(styled, targets)


def test_coloured_images_are_refused(styled, write_npz):
    noise = np.random.default_rng(0).integers(0, 255, (60, 28, 28, 3), np.uint8)
    styled.path = write_npz(name="colour.npz", images=noise)
    with pytest.raises(DataError, match="'npz' are coloured"):
        load_dataset(styled, "train")


def test_more_images_than_the_smallest_style_has_are_refused(styled):
    styled.style_size = 10**3
    with pytest.raises(DataError, match="data.style_size=1000: the smallest style of the training data has .* images"):
        load_dataset(styled, "train")
