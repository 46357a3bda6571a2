"""Gated PixelCNN: maps whose positions follow one another in raster order (VHE supplement; van den Oord 2016).

One network serves images (the decoder of p(x | latents)) and the spatial set latent (its prior). It gives the
parameters of the distribution of every position from the positions before it and, if there is one, a map ``y``:
all of them at once for a map that is known (`__call__`), or position by position when drawing (`draw_map`), where
each layer computes one position from what it kept of the row above and of the position to the left.
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from hfsgm_jax.nn.layers import KERNEL_INIT, Dense, Pads, convolution


def gate(x: jax.Array) -> jax.Array:
    """tanh(a) * sigmoid(b) of the two halves of the last axis."""
    a, b = jnp.split(x, 2, -1)
    return jnp.tanh(a) * jax.nn.sigmoid(b)


def _pad(x: jax.Array, before: tuple[int, int]) -> jax.Array:
    """Zeros before the rows and columns of ``[..., H, W, C]``."""
    return jnp.pad(x, ((0, 0),) * (x.ndim - 3) + tuple((n, 0) for n in before) + ((0, 0),))


class Window(nn.Module):
    """A linear map of every window of ``rows`` x ``columns`` positions of ``[..., h, w, C]``.

    Of a map it is a convolution with this padding before and after rows and columns; of a single window, when drawing,
    a product.
    """

    features: int
    rows: int
    columns: int
    use_bias: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, padding: Pads) -> jax.Array:
        size, channels = (self.rows, self.columns), x.shape[-1]
        kernel = self.param("kernel", KERNEL_INIT, (math.prod(size) * channels, self.features)).astype(self.dtype)
        kernel = kernel.reshape(self.columns, self.rows, channels, -1).swapaxes(0, 1)
        if x.shape[-3:-1] == size and not any(map(any, padding)):
            x = jnp.tensordot(x.astype(self.dtype), kernel, 3)[..., None, None, :]
        else:
            out = convolution(x.astype(self.dtype).reshape(-1, *x.shape[-3:]), kernel, (1, 1), padding)
            x = out.reshape(*x.shape[:-3], *out.shape[1:])
        return x + self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype) if self.use_bias else x


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
        wide = 2 * self.features
        dense = lambda: Dense(wide, use_bias=False, dtype=self.dtype)
        self.above = Window(wide, 1 if self.first else 2, 3, use_bias=True, dtype=self.dtype)
        self.left = Window(wide, 1, 1 if self.first else 2, dtype=self.dtype)
        self.across, self.condition = dense(), dense()
        self.condition_above = None if self.last else dense()
        self.out = None if self.first else Dense(self.features, dtype=self.dtype)

    def up(
        self, rows: jax.Array, y: jax.Array | None, padding: tuple[int, int] = (0, 0)
    ) -> tuple[jax.Array, jax.Array | None]:
        """The vertical stack: what the rows above say, ``[..., R, W, features]``.

        Args:
          rows: its input in the row above and, except in the first layer, in this row; or a whole map with its
            ``padding``.
          y: the condition in this row, or of the map.

        Returns:
          What `across_left` takes, and the output of the vertical stack (None: it has none).
        """
        x = self.above(rows, (padding, (1, 1)))
        if self.last:
            return self.across(x), None
        return self.across(x), gate(x if y is None else x + self.condition_above(y))

    def across_left(
        self,
        u: jax.Array,
        seen: jax.Array,
        here: jax.Array | None,
        y: jax.Array | None,
        padding: tuple[int, int] = (0, 0),
    ) -> jax.Array:
        """The horizontal stack, of one position or of a map.

        Args:
          u: of `up`.
          seen: its input at the position to the left and, unless first, here; or a map with its ``padding``.
          here: its input here, unless first.
          y: the condition here.
        """
        x = u + self.left(seen, ((0, 0), padding)).reshape(u.shape)
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
        x = v = h = x.astype(self.dtype)
        for layer in self.stack:
            if layer.first:  # does not see the position itself
                u, v = layer.up(_pad(x[..., :-1, :, :], (1, 0)), y)
                h = layer.across_left(u, _pad(x[..., :-1, :], (0, 1)), None, y)
            else:
                u, v = layer.up(v, y, (1, 0))
                h = layer.across_left(u, h, h, y, (1, 0))
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
        us, inputs = [], []
        for layer, row in zip(self.stack, above):
            rows = jnp.stack([row, *inputs[-1:]], -3)
            u, v = layer.up(rows, None if y is None else y[..., None, :, :])
            us.append(u[..., 0, :, :])
            inputs += [] if v is None else [v[..., 0, :, :]]
        return tuple(us), tuple(inputs)

    def position(
        self, us: tuple[jax.Array, ...], lefts: tuple[jax.Array, ...], y: jax.Array | None
    ) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        """Parameters of one position, and the inputs of all layers but the first there.

        Args:
          us: per layer, ``[..., features]``, of `begin_row`.
          lefts: per layer, its input at the position to the left.
          y: the condition there.
        """
        h = []
        for layer, u, left in zip(self.stack, us, lefts):
            seen = jnp.stack([left, *h[-1:]], -2)[..., None, :, :]
            h.append(layer.across_left(u, seen, h[-1] if h else None, y))
        return self.head(nn.relu(h[-1])), tuple(h[:-1])


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
    return jax.lax.fori_loop(0, height if rows is None else rows, row, (out, inputs))[0]
