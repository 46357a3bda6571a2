"""Spatial transformer: affine warps of maps, bilinear, zeros outside (Jaderberg et al. 2015)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def warp(x: jax.Array, affine: jax.Array) -> jax.Array:
    """Maps ``[B, N or 1, H, W, C]`` seen through affine maps ``[B, N, 6]``: ``[B, N, H, W, C]``.

    Position (row, column) in [-1, 1] shows the map at ``(a0 r + a1 c + a2, a3 r + a4 c + a5)``.
    """
    height, width = x.shape[-3:-1]
    x = jnp.broadcast_to(x, (*affine.shape[:2], *x.shape[2:]))
    r, c = jnp.meshgrid(jnp.linspace(-1, 1, height), jnp.linspace(-1, 1, width), indexing="ij")
    grid = jnp.stack([r, c, jnp.ones_like(r)])  # [3, H, W]

    def one(image, theta):
        where = jnp.einsum("ij,jhw->ihw", theta.reshape(2, 3), grid)
        size = jnp.array([height - 1, width - 1], jnp.float32)[:, None, None]
        where = (where + 1) / 2 * size
        channel = lambda plane: jax.scipy.ndimage.map_coordinates(plane, list(where), order=1, cval=0.0)  # noqa: E731
        return jax.vmap(channel, -1, -1)(image)

    return jax.vmap(jax.vmap(one))(x.astype(jnp.float32), affine.astype(jnp.float32))


class Affine(nn.Module):
    """A linear map to the 6 numbers of an affine warp, the identity at first: else a warp starts degenerate."""

    @nn.compact
    def __call__(self, h: jax.Array) -> jax.Array:
        zeros = nn.initializers.zeros
        return jnp.array(IDENTITY) + nn.Dense(6, kernel_init=zeros, bias_init=zeros, dtype=jnp.float32)(h)
