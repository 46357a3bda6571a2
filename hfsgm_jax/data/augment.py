"""Random changes of images on the device. A row's are a function of its key; what is off costs nothing."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from hfsgm_jax.data.errors import DataError

DIHEDRAL = 8  # flips and quarter turns of a square
_FLIP, _WARP, _PIXELS = 1, 2, 8  # what a row's key is folded with (pixels: plus the slot)


def augment_rows(keys: jax.Array, images: jax.Array, turn: jax.Array, spec: Any) -> jax.Array:
    """Flips, turns and warps ``images`` ``[B, N, H, W, C]`` as ``spec`` (a `SetSpec`) says.

    Flips, rotation and the dihedral copy ``turn`` ``[B]`` are shared by a set, affine warps are per image.
    """
    height, width = images.shape[2:4]
    if spec.dihedral:
        if height != width:
            raise DataError(f"data.dihedral needs square images, these are {height}x{width}.")
        images = jax.vmap(dihedral)(images, turn)
    if spec.flip:
        draws = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(k, _FLIP)))(keys)
        images = jax.vmap(_flip)(images, jnp.floor(4 * draws))
    if spec.rotate or spec.affine:
        matrix, shift = jax.vmap(lambda k: _random_affine(k, images.shape[1], spec.rotate, spec.affine))(keys)
        images = jax.vmap(jax.vmap(warp))(images, matrix, shift)
    return images


def binarize_rows(keys: jax.Array, images: jax.Array) -> jax.Array:
    """Bernoulli draws of ``images`` ``[B, N, H, W, C]`` in [0, 1]; a slot's follow its row's key and its index."""

    def draw(key: jax.Array, slot: jax.Array, image: jax.Array) -> jax.Array:
        key = jax.random.fold_in(key, _PIXELS + slot)
        return (jax.random.uniform(key, image.shape) < image).astype(image.dtype)

    slots = jnp.arange(images.shape[1])
    return jax.vmap(lambda key, row: jax.vmap(draw, (None, 0, 0))(key, slots, row))(keys, images)


def dihedral(images: jax.Array, turn: jax.Array) -> jax.Array:
    """Copy ``turn`` (0..7; 0 changes nothing) of square ``images`` ``[..., H, W, C]``."""
    images = jnp.where(turn >= 4, images.swapaxes(-3, -2), images)
    return _flip(images, turn % 4)


def _flip(images: jax.Array, which: jax.Array) -> jax.Array:
    """``[..., H, W, C]`` flipped: 1 left-right, 2 up-down, 3 both."""
    images = jnp.where(which % 2 == 1, jnp.flip(images, -2), images)
    return jnp.where(which >= 2, jnp.flip(images, -3), images)


def warp(image: jax.Array, matrix: jax.Array, shift: jax.Array) -> jax.Array:
    """Bilinear: pixel p of the result, from the image's centre, shows the image at ``matrix @ p + shift``.

    Args:
      image: ``[H, W, C]``; continues its border pixels.
      matrix: ``[2, 2]`` over (row, column).
      shift: ``[2]``, shares of height and width.
    """
    size = jnp.array(image.shape[:2], jnp.float32)
    grid = jnp.stack(jnp.meshgrid(*(jnp.arange(n, dtype=jnp.float32) for n in image.shape[:2]), indexing="ij"))
    centre = ((size - 1) / 2)[:, None, None]
    at = jnp.einsum("ij,jhw->ihw", matrix, grid - centre) + centre + (shift * size)[:, None, None]
    sample = lambda channel: map_coordinates(channel, list(at), order=1, mode="nearest")  # noqa: E731
    return jax.vmap(sample, -1, -1)(image)


def _random_affine(key: jax.Array, slots: int, rotate: float, affine: float) -> tuple[jax.Array, jax.Array]:
    """Matrices ``[N, 2, 2]`` and shifts ``[N, 2]``: the set's rotation times each image's small affine map."""
    key = jax.random.fold_in(key, _WARP)
    angle = jnp.deg2rad(rotate) * jax.random.uniform(key, (), minval=-1, maxval=1)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    rotation = jnp.array([[cos, -sin], [sin, cos]])
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(slots))
    noise = affine * jax.vmap(lambda k: jax.random.uniform(k, (2, 3), minval=-1, maxval=1))(keys)
    return rotation @ (jnp.eye(2) + noise[:, :, :2]), noise[:, :, 2]
