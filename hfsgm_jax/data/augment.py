"""Random changes of images on the device. A row's are a function of its key; what is off costs nothing."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from hfsgm_jax.warp import warp

DIHEDRAL = 8  # flips and quarter turns of a square
_FLIP, _WARP, _SHARE, _PIXELS = 1, 2, 3, 8  # what a row's key is folded with (pixels: plus the slot)


def augment_rows(keys: jax.Array, images: jax.Array, dihedral_index: jax.Array | None, spec: Any) -> jax.Array:
    """Flips, rotates and warps ``images`` ``[B, N, H, W, C]`` as ``spec`` (a `SetSpec`) says.

    Flips, rotation and the dihedral copy ``dihedral_index`` ``[B]`` are shared by a set, affine warps are per image.
    A row stays as it is, its dihedral copy excepted, with the probability ``1 - spec.augmented``.
    """
    if spec.dihedral:
        images = jax.vmap(dihedral)(images, dihedral_index)
    if not (spec.flip or spec.rotate or spec.affine):
        return images
    drawn = images
    if spec.flip:
        draws = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(k, _FLIP)))(keys)
        images = jax.vmap(_flip)(images, jnp.floor(4 * draws))
    if spec.rotate or spec.affine:
        matrix, shift = jax.vmap(lambda k: _random_affine(k, images.shape[1], spec.rotate, spec.affine))(keys)
        change = functools.partial(warp, order=0 if spec.binary else 1)
        images = jax.vmap(jax.vmap(change))(images, matrix, shift * jnp.array(images.shape[2:4], jnp.float32))
    changed = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(k, _SHARE)))(keys) < spec.augmented
    return jnp.where(changed[:, None, None, None, None], images, drawn)


def binarize_rows(keys: jax.Array, images: jax.Array) -> jax.Array:
    """Bernoulli draws of ``images`` ``[B, N, H, W, C]`` in [0, 1]; a slot's follow its row's key and its index."""

    def draw(key: jax.Array, slot: jax.Array, image: jax.Array) -> jax.Array:
        key = jax.random.fold_in(key, _PIXELS + slot)
        return (jax.random.uniform(key, image.shape) < image).astype(image.dtype)

    slots = jnp.arange(images.shape[1])
    return jax.vmap(lambda key, row: jax.vmap(draw, (None, 0, 0))(key, slots, row))(keys, images)


def dihedral(images: jax.Array, index: jax.Array) -> jax.Array:
    """Dihedral copy ``index`` (0..7; 0 changes nothing) of square ``images`` ``[..., H, W, C]``."""
    images = jnp.where(index >= 4, images.swapaxes(-3, -2), images)
    return _flip(images, index % 4)


def _flip(images: jax.Array, axes: jax.Array) -> jax.Array:
    """``[..., H, W, C]`` flipped: 1 left-right, 2 up-down, 3 both."""
    images = jnp.where(axes % 2 == 1, jnp.flip(images, -2), images)
    return jnp.where(axes >= 2, jnp.flip(images, -3), images)


def _random_affine(key: jax.Array, slots: int, rotate: float, affine: float) -> tuple[jax.Array, jax.Array]:
    """Matrices ``[N, 2, 2]``, the set's rotation times each image's small affine map; shifts ``[N, 2]``, shares of
    height and width.
    """
    key = jax.random.fold_in(key, _WARP)
    angle = jnp.deg2rad(rotate) * jax.random.uniform(key, (), minval=-1, maxval=1)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    rotation = jnp.array([[cos, -sin], [sin, cos]])
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(slots))
    noise = affine * jax.vmap(lambda k: jax.random.uniform(k, (2, 3), minval=-1, maxval=1))(keys)
    return rotation @ (jnp.eye(2) + noise[:, :, :2]), noise[:, :, 2]
