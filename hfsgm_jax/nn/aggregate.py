"""From the features of a set's images to one feature of the set, seeing masked slots only."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from hfsgm_jax.nn.layers import Dense
from hfsgm_jax.trace import expand_mask, masked_mean

AGGREGATORS = ("mean", "max", "lag")
_KERNEL_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform", in_axis=0, out_axis=(1, 2))


class LearnableAggregation(nn.Module):
    """LAG: multi-head attention whose query is the mean of the set (SCHA-VAE, Alg. 2, eq. 20-21).

    One weight per set, head and image: space is part of the dot product. The projections of keys
    and values are applied to the query and to the weighted means instead, which is the same sum
    in another order: their cost does not grow with the number of images. A bias of the keys would
    add the same number to every score, so there is none.
    """

    heads: int = 4
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        width = x.shape[-1]
        split = (*x.shape[:1], 1, *x.shape[2:-1], self.heads, width // self.heads)
        query = Dense(width, dtype=self.dtype, name="query")(masked_mean(x, mask)).reshape(split)
        key_kernel = self.param("key", _KERNEL_INIT, (width, self.heads, width // self.heads))
        value_kernel = self.param("value", _KERNEL_INIT, (width, self.heads, width // self.heads))
        value_bias = self.param("value_bias", nn.initializers.zeros, (width,))

        query = jnp.einsum("b...hd,whd->b...hw", query[:, 0], key_kernel.astype(self.dtype))
        scores = jnp.einsum("b...hw,bn...w->bnh", query, x).astype(jnp.float32)  # [B, N, heads]
        scores = scores / math.sqrt(math.prod(split[2:-2]) * split[-1])
        weights = jax.nn.softmax(scores, 1, where=mask[..., None])  # of an empty mask zeros, with zero gradient
        pooled = jnp.einsum("bnh,bn...w->b...hw", weights.astype(x.dtype), jnp.where(expand_mask(mask, x.ndim), x, 0))
        pooled = jnp.einsum("b...hw,whd->b...hd", pooled, value_kernel.astype(self.dtype))
        out = pooled.reshape(*pooled.shape[:-2], width) + value_bias.astype(self.dtype)
        return jnp.where(expand_mask(mask.any(1), out.ndim), out, 0)[:, None], weights


class Aggregate(nn.Module):
    """``[B, N, ...]`` and a mask ``[B, N]`` -> ``[B, 1, ...]`` and attention weights (None unless LAG).

    A row whose mask is empty gives zeros, and gradients of zero.
    """

    kind: str = "mean"
    heads: int = 4
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        if self.kind == "lag":
            return LearnableAggregation(self.heads, self.dtype, name="lag")(x, mask)
        if self.kind == "max":
            full = expand_mask(mask, x.ndim)
            top = jnp.where(full, x, -jnp.inf).max(1, keepdims=True)
            return jnp.where(full.any(1, keepdims=True), top, 0), None
        return masked_mean(x, mask), None
