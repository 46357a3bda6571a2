"""SCHA-VAE-LAG in PyTorch, a peer of `torch_peer`; modules bear the names of our parameters."""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Normal(NamedTuple):
    """Mean and standard deviation of a diagonal Normal, ``[B or B*N, C, ...]`` float32."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, params: Tensor) -> "Normal":
        mean, raw = params.float().chunk(2, 1)
        return cls(mean, 1e-3 + F.softplus(raw, beta=math.log(2)))

    def sample(self, noise: Tensor | None) -> Tensor:
        return self.mean + self.std * (torch.randn_like(self.mean) if noise is None else noise)

    def kl(self, other: "Normal") -> Tensor:
        """``[B or B*N]`` nats."""
        ratio, shift = self.std / other.std, (self.mean - other.mean) / other.std
        return (0.5 * (shift.square() + ratio.square() - 1) - ratio.log()).flatten(1).sum(1)


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
        h = F.gelu(self.conv2(F.gelu(self.conv1(F.gelu(self.reduce(F.gelu(x)))))))
        h = in_float32(self.expand, h) if self.head else self.expand(h)
        return x + h if self.residual else h


class Lag(nn.Module):
    """Attention of the mean of a set to its images, ``[B*N, C, r, r]`` -> ``[B, C, r, r]``."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.value = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.key = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, x: Tensor, num: int) -> Tensor:
        split = lambda y, n: y.unflatten(0, (-1, n)).unflatten(2, (self.heads, -1)).flatten(3).transpose(1, 2)
        mean = x.unflatten(0, (-1, num)).mean(1)
        qkv = split(self.query(mean), 1), split(self.key(x), num), split(self.value(x), num)
        return F.scaled_dot_product_attention(*qkv).reshape(-1, *x.shape[1:])


class SetNode(nn.Module):
    """c_l: q sees the features of the images and z_{l+1}, p the set path."""

    def __init__(self, config: Any, resolution: int, top: bool):
        super().__init__()
        width, self.channels, self.resolution = config.width, config.c_channels, resolution
        block = lambda outputs, **kwargs: Bottleneck(width, outputs, width, resolution, **kwargs)
        self.prior_block = block(2 * self.channels + width, head=True)
        self.posterior_block = block(2 * self.channels, head=True)
        self.pool = Lag(width, config.heads)
        self.add_value = nn.Conv2d(self.channels, width, 1)
        self.residual_block = block(width, residual=True)
        self.from_z = None if top else nn.Conv2d(width, width, 1)

    def forward(self, xc: Tensor, xz: Tensor, features: Tensor, num: int, noise: Tensor | None):
        """-> posterior, prior, xc, xz."""
        xc, xz = upsample(xc, self.resolution), upsample(xz, self.resolution)
        params, residual = self.prior_block(xc).tensor_split([2 * self.channels], 1)
        evidence = xc.repeat_interleave(num, 0) + features
        if self.from_z is not None:
            evidence = evidence + self.from_z(xz)
        posterior = Normal.of(self.posterior_block(self.pool(evidence, num)))
        xc = self.residual_block(xc + residual + self.add_value(posterior.sample(noise)))
        return posterior, Normal.of(params), xc, xz


class ImageNode(nn.Module):
    """z_l of every image: q sees its features and the image path, p the image path alone."""

    def __init__(self, config: Any, resolution: int):
        super().__init__()
        width, self.channels, self.resolution = config.width, config.z_channels, resolution
        block = lambda inputs, outputs, **kwargs: Bottleneck(inputs, outputs, width, resolution, **kwargs)
        self.from_c = nn.Conv2d(width, width, 1)
        self.prior_block = block(width, 2 * self.channels + width, head=True)
        self.posterior_block = block(2 * width, 2 * self.channels, head=True)
        self.add_value = nn.Conv2d(self.channels, width, 1)
        self.residual_block = block(width, width, residual=True)

    def forward(self, xc: Tensor, xz: Tensor, features: Tensor, num: int, noise: Tensor | None):
        """-> posterior, prior, xc, xz; xz has a row per set before the first z, then one per image."""
        each_image = lambda x: x if len(x) == len(features) else x.repeat_interleave(num, 0)
        added = self.from_c(xc)
        xz = xz + (added if len(xz) == len(xc) else each_image(added))
        params, residual = map(each_image, self.prior_block(xz).tensor_split([2 * self.channels], 1))
        xz = each_image(xz)
        posterior = Normal.of(self.posterior_block(torch.cat([xz, features], 1)))
        xz = self.residual_block(xz + residual + self.add_value(posterior.sample(noise)))
        return posterior, Normal.of(params), xc, xz


class Tower(nn.Module):
    """Blocks ``r{resolution}_{index}`` of the encoder and the decoder, from a text like ``8-6,4-2``."""

    def __init__(self, text: str, width: int):
        super().__init__()
        self.levels = [tuple(map(int, level.split("-"))) for level in text.split(",")]
        for r, depth in self.levels:
            for i in range(depth):
                self.add_module(f"r{r}_{i}", Bottleneck(width, width, width, r, residual=True))


class Encoder(Tower):
    """``[B*N, C, 32, 32]`` -> {resolution: features}."""

    def __init__(self, config: Any, channels: int):
        super().__init__(config.encoder, config.width)
        self.stem = nn.Conv2d(channels, config.width, 3, padding=1)

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        x, features = self.stem(x), {}
        for r, depth in self.levels:
            for i in range(depth):
                x = getattr(self, f"r{r}_{i}")(x)
                x = x if x.shape[-1] == r else F.avg_pool2d(x, x.shape[-1] // r)
            features[r] = x
        return features


class Decoder(Tower):
    """Both paths -> logits ``[B*N, C, 32, 32]``."""

    def __init__(self, config: Any, channels: int):
        super().__init__(config.decoder, config.width)
        self.from_z = nn.Conv2d(config.width, config.width, 3, padding=1)
        self.from_c = nn.Conv2d(config.width, config.width, 3, padding=1)
        self.pixels = nn.Conv2d(config.width, channels, 1)

    def forward(self, xz: Tensor, xc: Tensor, num: int) -> Tensor:
        x = self.from_z(xz) + self.from_c(xc).repeat_interleave(num, 0)
        for r, depth in self.levels[::-1]:
            for i in range(depth):
                x = upsample(getattr(self, f"r{r}_{i}")(x), r)
        return in_float32(self.pixels, x)


class Output(NamedTuple):
    """Per latent (top first, c before z) posterior and prior; nats ``[B, N]``, of c ``[B]``."""

    posteriors: list[Normal]
    priors: list[Normal]
    log_px: Tensor
    kl_c: Tensor
    kl_z: Tensor

    def loss(self, alpha: float = 0.0) -> Tensor:
        """Nats per image: (1 + alpha) (-log p) + KL / (1 + alpha); the NELBO at alpha = 0."""
        divergence = self.kl_z.mean() + self.kl_c.mean() / self.kl_z.shape[1]
        return -(1 + alpha) * self.log_px.mean() + divergence / (1 + alpha)


class ScaVae(nn.Module):
    """The model of a section ``model`` that `check` lets pass, for images of 28 or 32 pixels ``(H, W, C)``."""

    def __init__(self, config: Any, image_shape: tuple[int, int, int]):
        super().__init__()
        self.border = (32 - image_shape[0]) // 2
        self.encoder, self.decoder = Encoder(config, image_shape[2]), Decoder(config, image_shape[2])
        latents = [level.split("-") for level in reversed(config.latents.split(","))]
        resolutions = [int(r) for r, depth in latents for _ in range(int(depth))]
        nodes = [(SetNode(config, r, top=i == 0), ImageNode(config, r)) for i, r in enumerate(resolutions)]
        self.nodes = nn.ModuleList(node for pair in nodes for node in pair)
        self.start = nn.ParameterDict({k: nn.Parameter(torch.zeros(1, config.width, 1, 1)) for k in ("xc", "xz")})
        with torch.no_grad():  # priors start at N(0, 1), residual outputs small, as ours do
            for name, p in self.named_parameters():
                p.mul_(0.0 if name.endswith("bias") or "prior_block.expand" in name else 1.0)
                p.mul_(len(resolutions) ** -0.5 if name.endswith(("expand.weight", "add_value.weight")) else 1.0)

    def forward(self, images: Tensor, noise: list[Tensor] | None = None) -> Output:
        """One pass of training.

        Args:
          images: ``[B, N, C, H, W]`` in [0, 1].
          noise: per latent, ``[B, C, r, r]`` of c and ``[B*N, C, r, r]`` of z; drawn if None.
        """
        (rows, num), flat = images.shape[:2], images.flatten(0, 1)
        features = self.encoder(F.pad(flat, [self.border] * 4))
        xc, xz = (self.start[k].expand(rows, -1, -1, -1) for k in ("xc", "xz"))
        posteriors, priors = [], []
        for node, eps in zip(self.nodes, noise or [None] * len(self.nodes), strict=True):
            posterior, prior, xc, xz = node(xc, xz, features[node.resolution], num, eps)
            posteriors.append(posterior)
            priors.append(prior)
        logits = F.pad(self.decoder(xz, xc, num), [-self.border] * 4)
        log_px = -F.binary_cross_entropy_with_logits(logits, flat, reduction="none").sum((1, 2, 3))
        kls = [q.kl(p) for q, p in zip(posteriors, priors)]
        return Output(posteriors, priors, log_px.view(rows, num), sum(kls[::2]), sum(kls[1::2]).view(rows, num))
