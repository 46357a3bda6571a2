"""The affine warp of augmentation and spatial transformers."""

import jax.numpy as jnp
import numpy as np

from hfsgm_jax.warp import warp


def test_rotates_about_the_centre():
    image = jnp.asarray(np.random.default_rng(0).random((7, 7, 2)), jnp.float32)
    np.testing.assert_allclose(warp(image, jnp.eye(2), jnp.zeros(2)), image, atol=1e-6)
    quarter = warp(image, jnp.array([[0.0, -1.0], [1.0, 0.0]]), jnp.zeros(2))
    np.testing.assert_allclose(quarter, np.rot90(image, -1), atol=1e-5)


def test_moves_by_pixels_and_is_0_beyond_the_image():
    image = jnp.asarray(np.random.default_rng(1).random((5, 8, 1)), jnp.float32)
    for order, shift in ((1, 1.0), (0, 1.3)):
        moved = warp(image, jnp.eye(2), jnp.array([shift, 0.0]), order)
        np.testing.assert_allclose(moved, jnp.concatenate([image[1:], 0 * image[:1]]), atol=1e-5)
