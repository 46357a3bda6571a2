"""Gated PixelCNN: maps whose positions follow one another in raster order (VHE supplement; van den Oord 2016).

One network serves images (the decoder of p(x | latents)) and the spatial set latent (its prior). It gives the
parameters of the distribution of every position from the positions before it and, if there is one, a map ``y``:
all of them at once for a map that is known (`__call__`), or position by position when drawing (`draw_map`), where
each layer computes one position from what it kept of the row above and of the position to the left.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from hfsgm_jax.nn.layers import KERNEL_INIT, Dense


def gate(x: jax.Array) -> jax.Array:
    """tanh(a) * sigmoid(b) of the two halves of the last axis."""
    a, b = jnp.split(x, 2, -1)
    return jnp.tanh(a) * jax.nn.sigmoid(b)


def _shift_right(x: jax.Array) -> jax.Array:
    """Every position sees its left neighbour, the first one zeros."""
    return jnp.pad(x[..., :-1, :], ((0, 0),) * (x.ndim - 2) + ((1, 0), (0, 0)))


def _shift_down(x: jax.Array) -> jax.Array:
    """Every row sees the one above it, the first one zeros."""
    return jnp.pad(x[..., :-1, :, :], ((0, 0),) * (x.ndim - 3) + ((1, 0), (0, 0), (0, 0)))


def _three(x: jax.Array) -> jax.Array:
    """Each position beside its left and right neighbours: ``[..., W, F]`` -> ``[..., W, 3 F]``."""
    padded = jnp.pad(x, ((0, 0),) * (x.ndim - 2) + ((1, 1), (0, 0)))
    width = x.shape[-2]
    return jnp.concatenate([padded[..., i : i + width, :] for i in range(3)], -1)


class CausalLayer(nn.Module):
    """One gated layer of two stacks without a blind spot: the features of a position from those before it.

    The vertical stack (`up`) sees the rows above, all it needs is known when a row begins; the horizontal one
    (`across_left`) sees it and what lies to the left. They are apart, so that drawing computes a row and then its
    positions.

    Attributes:
      features: F, of the input and the output, but for the first layer's input.
      first: the position itself is not seen, nor its row by the vertical stack.
      last: no layer needs the output of the vertical stack.
    """

    features: int
    first: bool = False
    last: bool = False
    dtype: Any = jnp.float32

    def setup(self):
        dense = lambda bias=False: Dense(2 * self.features, use_bias=bias, kernel_init=KERNEL_INIT, dtype=self.dtype)
        self.above, self.across, self.left, self.condition = dense(True), dense(), dense(), dense()
        self.condition_above = None if self.last else dense()
        self.out = None if self.first else Dense(self.features, dtype=self.dtype)

    def up(self, above: jax.Array, here: jax.Array | None, y: jax.Array | None) -> tuple[jax.Array, jax.Array | None]:
        """The vertical stack: what the rows above say, ``[..., W, features]`` each.

        Args:
          above, here: its input in the row above and, except in the first layer, in this row.
          y: this row of the condition.

        Returns:
          What `across_left` takes, and the output of the vertical stack in this row (None: it has none).
        """
        seen = above if self.first else jnp.concatenate([above, here], -1)
        x = self.above(_three(seen))
        if self.last:
            return self.across(x), None
        return self.across(x), gate(x if y is None else x + self.condition_above(y))

    def across_left(self, u: jax.Array, left: jax.Array, here: jax.Array | None, y: jax.Array | None) -> jax.Array:
        """The horizontal stack: features from ``u`` (of `up`), the left neighbour and, unless first, itself."""
        x = u + self.left(left if self.first else jnp.concatenate([left, here], -1))
        x = gate(x if y is None else x + self.condition(y))
        return x if self.first else here + self.out(x)


class PixelCNN(nn.Module):
    """Parameters of every position from the positions before it.

    Attributes:
      features, layers: of the causal layers.
      outputs: parameters per position.
      channels: of the map.
    """

    outputs: int
    channels: int
    features: int = 64
    layers: int = 2
    dtype: Any = jnp.float32

    def setup(self):
        ends = [(i == 0, i == self.layers - 1) for i in range(self.layers)]
        self.stack = [CausalLayer(self.features, *end, self.dtype) for end in ends]
        self.head = Dense(self.outputs, dtype=jnp.float32)

    def __call__(self, x: jax.Array, y: jax.Array | None = None) -> jax.Array:
        """``[..., H, W, channels]`` (and ``y`` ``[..., H, W, any]``) -> ``[..., H, W, outputs]``, float32."""
        v = h = x.astype(self.dtype)
        for layer in self.stack:
            u, v = layer.up(_shift_down(v), v, y)
            h = layer.across_left(u, _shift_right(h), h, y)
        return self.head(nn.relu(h))

    def begin_row(
        self, above: tuple[jax.Array, ...], y: jax.Array | None
    ) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        """What a row's positions need of the rows above, before any of them is known.

        Args:
          above: per layer, the input of its vertical stack in the row above, ``[..., W, features]``.
          y: this row of the condition.

        Returns:
          u per layer, and per layer but the first the input of its vertical stack in this row.
        """
        us, inputs, v = [], [], None
        for layer, row in zip(self.stack, above):
            u, v = layer.up(row, v, y)
            us.append(u)
            inputs.append(v)
        return tuple(us), tuple(inputs[:-1])

    def position(
        self, us: tuple[jax.Array, ...], lefts: tuple[jax.Array, ...], y: jax.Array | None
    ) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        """Parameters of one position, and the inputs of all layers but the first there.

        Args:
          us: per layer, ``[..., features]``, of `begin_row`.
          lefts: per layer, its input at the position to the left.
          y: the condition there.
        """
        h, inputs = None, []
        for layer, u, left in zip(self.stack, us, lefts):
            h = layer.across_left(u, left, h, y)
            inputs.append(h)
        return self.head(nn.relu(h)), tuple(inputs[:-1])


def draw_map(
    net: PixelCNN,
    variables: Any,
    y: jax.Array | None,
    noise: Any,
    draw: Callable[[jax.Array, Any], tuple[jax.Array, Any]],
    rows: jax.Array | None = None,
) -> Any:
    """Draws a map position by position; a position costs one column of every layer, whatever the map's size.

    Args:
      net, variables: an unbound network and its variables.
      y: ``[..., H, W, any]`` or None.
      noise: pytree of ``[..., H, W, any]``, the randomness of every position.
      draw: (parameters ``[..., outputs]``, noise of the position) -> its value ``[..., channels]`` and
        anything else to keep of it, a pytree of ``[..., any]``.
      rows: traced number of rows to draw (all by default): 0 costs nothing. Not differentiable.

    Returns:
      What ``draw`` returned, of all positions: (``[..., H, W, channels]``, ``[..., H, W, any]``).
    """
    *lead, height, width, _ = jax.tree.leaves(noise)[0].shape
    axis = len(lead)
    at_row = lambda tree, i: jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, i, axis, False), tree)
    columns_first = lambda tree: jax.tree.map(lambda a: jnp.moveaxis(a, axis, 0), tree)
    blank = lambda features: jnp.zeros((*lead, width, features), net.dtype)
    inputs = (blank(net.channels), *[blank(net.features)] * (net.layers - 1))

    def row(i, carry):
        out, above = carry
        us, inputs_here = net.apply(variables, above, at_row(y, i), method="begin_row")

        def step(lefts, column):
            noise_here, us_here, y_here = column
            params, here = net.apply(variables, us_here, lefts, y_here, method="position")
            value, extra = draw(params, noise_here)
            seen = value.astype(net.dtype)
            return (seen, *here), (seen, (value, extra))

        start = tuple(x[..., 0, :] * 0 for x in inputs)
        _, found = jax.lax.scan(step, start, columns_first((at_row(noise, i), us, at_row(y, i))))
        seen, found = jax.tree.map(lambda a: jnp.moveaxis(a, 0, axis), found)
        out = jax.tree.map(lambda all_, new: jax.lax.dynamic_update_index_in_dim(all_, new, i, axis), out, found)
        return out, (seen, *inputs_here)

    shapes = jax.eval_shape(draw, jnp.zeros((*lead, net.outputs)), jax.tree.map(lambda a: a[..., 0, 0, :], noise))
    out = jax.tree.map(lambda s: jnp.zeros((*s.shape[:axis], height, width, *s.shape[axis:]), s.dtype), shapes)
    end = height if rows is None else rows
    return jax.lax.fori_loop(0, end, row, (out, inputs))[0]
