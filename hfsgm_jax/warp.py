"""Affine warp of an image, the one of augmentation and of spatial transformers."""

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates


def warp(image: jax.Array, matrix: jax.Array, shift: jax.Array, order: int = 1) -> jax.Array:
    """Pixel p of the result, from the image's centre, shows the image at ``matrix @ p + shift``; 0 beyond the image.

    Args:
      image: ``[H, W, C]`` float.
      matrix: ``[2, 2]`` over (row, column).
      shift: ``[2]`` pixels.
      order: 1, bilinear, or 0, the nearest pixel.
    """
    size = jnp.array(image.shape[:2], jnp.float32)
    grid = jnp.stack(jnp.meshgrid(*(jnp.arange(n, dtype=jnp.float32) for n in image.shape[:2]), indexing="ij"))
    centre = ((size - 1) / 2)[:, None, None]
    at = jnp.einsum("ij,jhw->ihw", matrix, grid - centre) + centre + shift[:, None, None]
    sample = lambda channel: map_coordinates(channel, list(at), order, mode="constant")
    return jax.vmap(sample, -1, -1)(image)
