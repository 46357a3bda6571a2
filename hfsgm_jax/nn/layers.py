"""Layers shared by every model. Arrays are ``[B, N, (h, w,) channels]``: layers act on the last axes."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from hfsgm_jax.trace import expand_mask

_AXES = ("NHWC", "HWIO", "NHWC")
POSITIONS = 4096  # of maps, summed at once by the gradient of a kernel on a CPU
Strides, Pads = Sequence[int], Sequence[tuple[int, int]]

# PyTorch's default for linear and convolutional kernels: U(-1/sqrt(fan_in), 1/sqrt(fan_in)).
KERNEL_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def scaled_init(scale: float) -> nn.initializers.Initializer:
    """The default kernel times ``scale`` (1/sqrt(L) on residual outputs); 0 gives zeros."""
    if scale == 0:
        return nn.initializers.zeros
    return nn.initializers.variance_scaling(scale * scale / 3, "fan_in", "uniform")


@jax.checkpoint  # the backward pass computes erf again; XLA would keep it beside x and the result
def gelu(x: jax.Array) -> jax.Array:
    """Exact GELU by erf: `jax.nn.gelu` takes erfc, which costs more and is no better added to 1."""
    return 0.5 * x * (1 + jax.lax.erf(x * math.sqrt(0.5)))


@jax.custom_vjp
def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """``x @ kernel`` of ``[B, ..., C]``, whose gradient of the kernel is one of every row, added up.

    With the fewer channels first: XLA on a CPU takes a quarter of the time of the product over all rows, which JAX
    derives and for which XLA writes one of the two with its axes exchanged.
    """
    return x @ kernel


def _product_backward(residuals, dy):
    x, kernel = residuals
    widens = x.shape[-1] < dy.shape[-1]
    rows = [a.reshape(len(a), -1, a.shape[-1]) for a in ((x, dy) if widens else (dy, x))]
    total = jnp.einsum("bka,bkc->bac", *rows, preferred_element_type=jnp.float32).sum(0)
    return dy @ kernel.T, (total if widens else total.T).astype(kernel.dtype)


product.defvjp(lambda x, kernel: (product(x, kernel), (x, kernel)), _product_backward)


def _dot_general(x: jax.Array, kernel: jax.Array, dimensions: Any, **options: Any) -> jax.Array:
    """The one of `flax.linen.Dense`."""
    # A gradient of every row takes no more memory than the row itself.
    if jax.default_backend() == "cpu" and min(kernel.shape) <= math.prod(x.shape[1:-1]):
        return product(x, kernel)
    return jax.lax.dot_general(x, kernel, dimensions, **options)


class Dense(nn.Dense):
    """Linear map of the last axis; on ``[..., h, w, C]`` a 1x1 convolution, as a matrix product."""

    kernel_init: Any = KERNEL_INIT
    dot_general: Any = _dot_general


def _plain(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Pads, **dilation: Strides) -> jax.Array:
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=_AXES, **dilation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Pads) -> jax.Array:
    """Convolution of ``[B, h, w, C]`` with ``[k, k, C, features]`` whose gradients have these same axes.

    Inside a compiled loop, XLA on a CPU has a fast convolution for this order of axes alone, not for the order that
    JAX derives for the gradient of the kernel, which takes a hundred times as long.
    """
    return _plain(x, kernel, strides, padding)


def _convolve_backward(strides, padding, residuals, dy):
    x, kernel = residuals
    pads_x, pads_kernel = zip(*map(_gradient_pads, x.shape[1:3], kernel.shape[:2], dy.shape[1:3], strides, padding))
    dx = _plain(dy, kernel[::-1, ::-1].swapaxes(2, 3), (1, 1), pads_x, lhs_dilation=strides)
    of_kernel = lambda x, dy: _kernel_gradient(x, dy, kernel, strides, pads_kernel)
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size < 2 or mesh.manual_axes or len(x) % mesh.size:
        return dx, of_kernel(x, dy)
    # Every device its own images: left to XLA, all would get all images.
    of_device = lambda x, dy: jax.lax.psum(of_kernel(x, dy), mesh.axis_names)
    return dx, jax.shard_map(of_device, in_specs=jax.P(mesh.axis_names), out_specs=jax.P(), check_vma=False)(x, dy)


def _gradient_pads(size: int, window: int, size_out: int, stride: int, pad: tuple[int, int]) -> Pads:
    """Along one axis: padding of the convolutions that give the gradients of x and of the kernel."""
    before, span, beyond = pad[0], (size_out - 1) * stride + 1, window - 1
    return (beyond - before, size + before - span), (before, beyond + span - size - before)


def _kernel_gradient(x: jax.Array, dy: jax.Array, kernel: jax.Array, strides: Strides, pads: Pads) -> jax.Array:
    """Summed over a few images at once: of many large maps, or an odd number, XLA takes two to five times as long."""

    def of_few(x, dy):
        """A convolution with the channels of x as its batch, and the images as what is summed over."""
        x, dy = x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3)
        return _plain(x, dy, (1, 1), pads, rhs_dilation=strides).transpose(1, 2, 0, 3)

    few = min(len(x) + len(x) % 2, max(4, POSITIONS // math.prod(dy.shape[1:3]) // 4 * 4))
    parts = -(-len(x) // few)
    pad = lambda a: jnp.pad(a, ((0, parts * few - len(a)), (0, 0), (0, 0), (0, 0)))
    split = [pad(a).reshape(parts, few, *a.shape[1:]) for a in (x, dy)]
    add = lambda total, part: (total + of_few(*part), None)
    return jax.lax.scan(add, jnp.zeros(kernel.shape), split)[0].astype(kernel.dtype)


convolve.defvjp(lambda *args: (_plain(*args), args[:2]), _convolve_backward)


def convolution(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Pads, **_: Any) -> jax.Array:
    """Convolution of ``[B, h, w, C]`` with ``[k, l, C, features]``; the one that `flax.linen.Conv` calls, too.

    No padding may be negative: of a 1x1 kernel XLA on a CPU then reads beyond its input.
    """
    function = convolve if jax.default_backend() == "cpu" else _plain
    return function(x, kernel, tuple(strides), tuple(map(tuple, padding)))


class Conv(nn.Module):
    """Square convolution over the axes -3, -2; ``padding``: pixels on every side, or pairs of them."""

    features: int
    size: int = 3
    stride: int = 1
    padding: int | Pads = 1
    use_bias: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        options = dict(use_bias=self.use_bias, kernel_init=KERNEL_INIT, dtype=self.dtype)
        if self.size == 1:
            return Dense(self.features, **options)(x)
        window, strides = (self.size, self.size), (self.stride, self.stride)
        return nn.Conv(self.features, window, strides, self.padding, conv_general_dilated=convolution, **options)(x)


class BatchNorm(nn.Module):
    """Batch normalisation whose statistics see observed slots only.

    Attributes:
      per_channel: statistics, scale and shift per channel; otherwise one of each for all numbers
        (the "global" form of the Neural Statistician's heads: eps 1e-3, slow averages).
    """

    per_channel: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, observed: jax.Array, train: bool) -> jax.Array:
        mask = observed if x.shape[1] == observed.shape[1] else observed.any(1, keepdims=True)
        momentum, epsilon = (0.9, 1e-5) if self.per_channel else (0.99, 1e-3)
        norm = nn.BatchNorm(use_running_average=not train, momentum=momentum, epsilon=epsilon, dtype=self.dtype)
        if self.per_channel:
            return norm(x, mask=expand_mask(mask, x.ndim))
        return norm(x[..., None], mask=expand_mask(mask, x.ndim + 1))[..., 0]


def upsample(x: jax.Array, size: int) -> jax.Array:
    """Nearest-neighbour upsampling of ``[..., h, w, C]`` to ``size`` pixels, a multiple of h."""
    k = size // x.shape[-3]
    return x.repeat(k, -3).repeat(k, -2) if k > 1 else x


def average_pool(x: jax.Array, k: int = 2) -> jax.Array:
    """Mean over k x k tiles of ``[..., h, w, C]``."""
    h, w, c = x.shape[-3:]
    return x.reshape(*x.shape[:-3], h // k, k, w // k, k, c).mean((-4, -2))


def at_resolution(x: jax.Array, size: int) -> jax.Array:
    """``[..., h, w, C]`` pooled or upsampled to ``size`` pixels."""
    return average_pool(x, x.shape[-3] // size) if x.shape[-3] > size else upsample(x, size)


def space_to_depth(x: jax.Array, k: int) -> jax.Array:
    """``[..., h, w, C]`` -> ``[..., h/k, w/k, k*k*C]``: one vector per tile."""
    h, w, c = x.shape[-3:]
    x = x.reshape(*x.shape[:-3], h // k, k, w // k, k, c)
    return jnp.swapaxes(x, -4, -3).reshape(*x.shape[:-5], h // k, w // k, k * k * c)


def depth_to_space(x: jax.Array, k: int) -> jax.Array:
    """``[..., h, w, k*k*C]`` -> ``[..., h*k, w*k, C]``, the inverse of `space_to_depth`."""
    h, w, c = x.shape[-3:]
    x = x.reshape(*x.shape[:-3], h, w, k, k, c // (k * k))
    return jnp.swapaxes(x, -4, -3).reshape(*x.shape[:-5], h * k, w * k, c // (k * k))


def padded_size(size: int) -> int:
    """Images of 28 pixels are worked on at 32."""
    return 32 if size == 28 else size


def resize(x: jax.Array, size: int, border: str) -> jax.Array:
    """``[..., h, w, C]`` at ``size`` pixels: zeros added around it, or cut (``pad``); or as PyTorch's ``nearest``."""
    margin = (size - x.shape[-3]) // 2
    if border == "nearest" and margin:  # rows and columns floor(i * old / new)
        index = jnp.arange(size) * x.shape[-3] // size
        return x[..., index, :, :][..., index, :]
    if margin < 0:
        return x[..., -margin:margin, -margin:margin, :]
    return jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [(margin, margin)] * 2 + [(0, 0)])
