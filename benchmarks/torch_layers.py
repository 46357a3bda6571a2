"""Layers of the PyTorch SCHA-VAE (`torch_model`): NCHW maps, the images of all sets in one batch axis."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LN2 = math.log(2.0)


class Moments(NamedTuple):
    """Mean and standard deviation of a diagonal Normal, ``[B or B*N, C, r, r]`` float32."""

    mean: Tensor
    std: Tensor


def moments(params: Tensor) -> Moments:
    """Mean and raw scale, stacked on the channels -> a Normal."""
    mean, raw = params.float().chunk(2, 1)
    return Moments(mean, 1e-3 + F.softplus(raw, beta=LN2))


def kl(q: Moments, p: Moments) -> Tensor:
    """KL(q || p) summed over the event, ``[B or B*N]`` nats."""
    ratio, shift = q.std / p.std, (q.mean - p.mean) / p.std
    return (0.5 * (shift.square() + ratio.square() - 1) - ratio.log()).sum((1, 2, 3))


def upsample(x: Tensor, size: int) -> Tensor:
    return x if x.shape[-1] == size else F.interpolate(x, scale_factor=size // x.shape[-1], mode="nearest")


def in_float32(layer: nn.Module, x: Tensor) -> Tensor:
    """A head: float32 also under autocast."""
    with torch.autocast(x.device.type, enabled=False):
        return layer(x.float())


class Bottleneck(nn.Module):
    """GELU-1x1-GELU-kxk-GELU-kxk-GELU-1x1 with a quarter of the width inside; k = 3 above 2 pixels."""

    def __init__(self, inputs: int, outputs: int, width: int, resolution: int, residual=False, head=False):
        super().__init__()
        inner, size = width // 4, 3 if resolution > 2 else 1
        self.reduce = nn.Conv2d(inputs, inner, 1)
        self.conv1 = nn.Conv2d(inner, inner, size, padding=size // 2)
        self.conv2 = nn.Conv2d(inner, inner, size, padding=size // 2)
        self.expand = nn.Conv2d(inner, outputs, 1)
        self.residual, self.head = residual, head

    def forward(self, x: Tensor) -> Tensor:
        h = self.reduce(F.gelu(x))
        h = self.conv2(F.gelu(self.conv1(F.gelu(h))))
        h = in_float32(self.expand, F.gelu(h)) if self.head else self.expand(F.gelu(h))
        return x + h if self.residual else h


class Attention(nn.Module):
    """LAG: the mean of the set asks its images; space is part of the dot product."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Conv2d(width, width, 1)
        self.key = nn.Conv2d(width, width, 1, bias=False)
        self.value = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, num: int) -> Tensor:
        """``[B*N, C, r, r]`` -> ``[B, C, r, r]``."""
        c, r = x.shape[1:3]
        split = lambda y, n: y.reshape(-1, n, self.heads, c // self.heads * r * r).transpose(1, 2)
        mean = x.unflatten(0, (-1, num)).mean(1)
        out = F.scaled_dot_product_attention(
            split(self.query(mean), 1), split(self.key(x), num), split(self.value(x), num)
        )
        return out.transpose(1, 2).reshape(-1, c, r, r)


class Pool(nn.Module):
    """Mean, maximum or attention over the images of a set."""

    def __init__(self, kind: str, width: int, heads: int):
        super().__init__()
        self.kind = kind
        if kind == "lag":
            self.lag = Attention(width, heads)

    def forward(self, x: Tensor, num: int) -> Tensor:
        if self.kind == "lag":
            return self.lag(x, num)
        sets = x.unflatten(0, (-1, num))
        return sets.amax(1) if self.kind == "max" else sets.mean(1)


def split_prior(params: Tensor, channels: int) -> tuple[Moments, Tensor]:
    return moments(params[:, : 2 * channels]), params[:, 2 * channels :]


def each_image(x: Tensor, num: int) -> Tensor:
    """A row per set -> a row per image."""
    return x.repeat_interleave(num, 0)


def sample(q: Moments, noise: Tensor | None) -> Tensor:
    return q.mean + q.std * (torch.randn_like(q.mean) if noise is None else noise)
