"""Styles: pens, who has which, sets whose target and style images share one, fixed sets, refusals."""

import functools

import chex
import jax
import numpy as np
import pytest

from hfsgm_jax.data import SetSpec, draw_sets, fixed_sets, load_dataset, pixels_of, sample_sets, styles

STYLES = 4


@pytest.fixture
def styled(config, write_npz):
    """A data section: ten classes of twelve images in four styles."""
    stroke = np.zeros((120, 28, 28), np.uint8)
    for i, image in enumerate(stroke):  # a line that tells the image: row 4 + class, from column 4 + member on
        image[4 + i // 12, 4 + i % 12 : 24] = 255
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
    colour, width, _ = styles.palette(num)
    np.testing.assert_allclose(drawn[:, 14, 14], colour, atol=0.5 / 255)  # the middle of a stroke is full ink
    assert (drawn[:, 0] == 0).all() and drawn.min() == 0 and drawn.max() <= 1
    np.testing.assert_allclose(255 * drawn, np.rint(255 * drawn), atol=1e-4)
    wide = (drawn.max(-1)[:, :, 14] > 0.3 * colour.max(1)[:, None]).sum(1)
    assert set(wide) >= {1, 3} and wide.max() <= 5
    photo = image * np.array([1, 0.5, 0], np.float32)  # drawn as the mean of its channels
    drawn = [styles.render(x[None], np.zeros(1, int), num) for x in (photo, image / 2)]
    np.testing.assert_array_equal(*drawn)
    apart = np.abs(colour[:, None] - colour).max(-1) + np.eye(num)
    assert apart.min() > 0.02 and len(np.unique(width)) == num
    np.testing.assert_allclose(np.bincount(styles.assign(9000, 30)) / 300, 1, atol=0.25)


def test_sets_hold_images_in_their_own_styles_and_the_targets_style(styled):
    dataset, spec = load_dataset(styled, "train"), SetSpec.from_config(styled, 1)
    table, key = dataset.table(), jax.random.key(0)
    assert (spec.styles, spec.style_size, dataset.info["styles"]) == (STYLES, 6, STYLES)
    sets = sample(table, key, spec)
    drawn = jax.jit(draw_sets, static_argnums=2)(table, key, spec)
    index = np.asarray(drawn.images)
    expected = pixels_of(dataset, index, 0, "none")
    np.testing.assert_allclose(sets.images, expected, atol=1e-6)  # as evaluations see these images
    style = dataset.style[index]
    np.testing.assert_array_equal(sets.ids["style"], style[:, -1])
    assert (style[:, 3:9] == style[:, -1:]).all()  # D^s and the target
    assert (style[:, :3] != style[:, -1:]).any()  # D^c in styles of its own
    of = np.repeat(dataset.label, dataset.size)[index]
    label = np.asarray(sets.ids["set"])[:, None]
    assert (of[:, [0, 1, 2, 9]] == label).all() and (of[:, 3:9] != label).any()
    slot = np.arange(10)
    np.testing.assert_array_equal(sets.context["set"], np.tile(slot < 3, (5, 1)))
    np.testing.assert_array_equal(sets.context["style"], np.tile((slot >= 3) & (slot < 9), (5, 1)))
    np.testing.assert_array_equal(sets.target, np.tile(slot == 9, (5, 1)))
    np.testing.assert_array_equal(sets.sizes["style"], np.bincount(dataset.style)[sets.ids["style"]])
    np.testing.assert_array_equal(sets.sizes["set"], np.full(5, 12))


def test_images_of_a_style_do_not_depend_on_the_row_given_it(styled):
    """D^s is uniform over the style's images, whatever the class and the context."""
    dataset, spec = load_dataset(styled, "train"), SetSpec.from_config(styled, 1)
    table = dataset.table()
    drawn = jax.jit(jax.vmap(lambda key: draw_sets(table, key, spec)))(jax.random.split(jax.random.key(1), 600))
    index, style = np.asarray(drawn.images)[..., 3:9], np.asarray(drawn.ids["style"])[..., -1]
    counts = np.bincount(index[style == 1].ravel(), minlength=len(dataset.style))
    assert (counts[dataset.style != 1] == 0).all()
    size = np.bincount(dataset.style, minlength=STYLES)
    np.testing.assert_allclose(counts[dataset.style == 1] / counts.sum() * size[1], 1, atol=0.3)


def test_fixed_sets_have_one_style_each(styled):
    dataset = load_dataset(styled, "test")
    sets = fixed_sets(dataset, 3, 0, 0, "none")
    index = dataset.start[np.searchsorted(dataset.label, sets.ids["set"])][:, None] + sets.member
    np.testing.assert_array_equal(sets.ids["style"], dataset.style[index[:, 0]])
    style = np.broadcast_to(sets.ids["style"][:, None], index.shape)
    np.testing.assert_array_equal(sets.images, pixels_of(dataset, index, 0, "none", style))
    assert (style != dataset.style[index]).any()
    np.testing.assert_array_equal(sets.sizes["style"], np.bincount(dataset.style)[sets.ids["style"]])
    assert sets.observed.all() and set(sets.context) == {"set"}
