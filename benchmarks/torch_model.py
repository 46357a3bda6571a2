"""SCHA-VAE in PyTorch: the peer that `torch_peer.py` times ours against. Never imported by the package.

Written as is usual in PyTorch: NCHW maps, the images of all sets in one batch axis, 1x1 layers as convolutions,
attention by `scaled_dot_product_attention`. Sets are whole: every image is observed, context and target.
Modules bear the names of our parameters, so that `ScaVae.load_from` is one loop.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.torch_layers import (
    Bottleneck,
    Moments,
    Pool,
    each_image,
    in_float32,
    kl,
    moments,
    sample,
    split_prior,
    upsample,
)

NEEDED = {"name": "scha_vae", "likelihood": "bernoulli", "pixelcnn_layers": 0}
NEEDED |= {"patch": 1, "border": "pad", "decoder_context": "full"}


class Output(NamedTuple):
    """What one pass gives: per latent (top first, c before z) posterior and prior, and nats ``[B, N]`` or ``[B]``."""

    posteriors: list[Moments]
    priors: list[Moments]
    log_px: Tensor
    kl_c: Tensor
    kl_z: Tensor


def uncovered(config: Any) -> list[str]:
    """Keys of a section ``model`` whose values this model does not do."""
    return [f"model.{k}={config[k]!r} (needed: {v!r})" for k, v in NEEDED.items() if config[k] != v]


def parse_levels(text: str) -> list[tuple[int, int]]:
    """``"8-6,4-2"`` -> [(8, 6), (4, 2)]."""
    return [tuple(map(int, part.split("-"))) for part in text.split(",")]


class SetNode(nn.Module):
    """c_l: q sees the features of the images and z_{l+1}, p the set path (and z_{l+1} in eq. 3)."""

    def __init__(self, config: Any, resolution: int, top: bool):
        super().__init__()
        width, channels = config.width, config.c_channels
        self.resolution, self.channels, self.top = resolution, channels, top
        self.sees = config.prior_sees_images and not top
        block = lambda outputs, **kwargs: Bottleneck(width, outputs, width, resolution, **kwargs)
        if self.sees:
            self.prior_moments, self.prior_residual = block(2 * channels, head=True), block(width)
        else:
            self.prior_block = block(2 * channels + width, head=True)
        self.posterior_block = block(2 * channels, head=True)
        self.pool = Pool(config.aggregate, width, config.heads)
        self.add_value = nn.Conv2d(channels, width, 1)
        self.residual_block = block(width, residual=True)
        if not top:
            self.from_z = nn.Conv2d(width, width, 1)

    def forward(self, xc: Tensor, xz: Tensor, features: Tensor, num: int, noise: Tensor | None):
        """-> posterior, prior, xc, xz."""
        xc, xz = upsample(xc, self.resolution), upsample(xz, self.resolution)
        if self.sees:
            seen = xc + self.from_z(xz.unflatten(0, (-1, num)).mean(1))
            prior, residual = moments(self.prior_moments(seen)), self.prior_residual(xc)
        else:
            prior, residual = split_prior(self.prior_block(xc), self.channels)
        evidence = (xc[:, None] + features.unflatten(0, (-1, num))).flatten(0, 1)
        if not self.top:
            evidence = evidence + self.from_z(xz)
        posterior = moments(self.posterior_block(self.pool(evidence, num)))
        value = sample(posterior, noise)
        return posterior, prior, self.residual_block(xc + residual + self.add_value(value)), xz


class ImageNode(nn.Module):
    """z_l of every image: q sees its features and the image path, p the image path alone."""

    def __init__(self, config: Any, resolution: int):
        super().__init__()
        width, channels = config.width, config.z_channels
        self.resolution, self.channels = resolution, channels
        block = lambda inputs, outputs, **kwargs: Bottleneck(inputs, outputs, width, resolution, **kwargs)
        self.from_c = nn.Conv2d(width, width, 1)
        self.prior_block = block(width, 2 * channels + width, head=True)
        self.posterior_block = block(2 * width, 2 * channels, head=True)
        self.add_value = nn.Conv2d(channels, width, 1)
        self.residual_block = block(width, width, residual=True)

    def forward(self, xc: Tensor, xz: Tensor, features: Tensor, num: int, noise: Tensor | None):
        """-> posterior, prior, xc, xz; xz has a row per set before the first z, then one per image."""
        shared = len(xz) == len(xc)
        added = self.from_c(xc)
        xz = xz + (added if shared else each_image(added, num))
        prior, residual = split_prior(self.prior_block(xz), self.channels)
        if shared:
            xz, residual, prior = (each_image(x, num) for x in (xz, residual, torch.cat(prior, 1)))
            prior = Moments(*prior.chunk(2, 1))
        posterior = moments(self.posterior_block(torch.cat([xz, features], 1)))
        value = sample(posterior, noise)
        return posterior, prior, xc, self.residual_block(xz + residual + self.add_value(value))


class Encoder(nn.Module):
    """``[B*N, C, 32, 32]`` -> {resolution: features}."""

    def __init__(self, config: Any, channels: int):
        super().__init__()
        self.levels = parse_levels(config.encoder)
        self.stem = nn.Conv2d(channels, config.width, 3, padding=1)
        for r, depth in self.levels:
            for i in range(depth):
                setattr(self, f"r{r}_{i}", Bottleneck(config.width, config.width, config.width, r, residual=True))

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        x, features = self.stem(x), {}
        for r, depth in self.levels:
            for i in range(depth):
                x = getattr(self, f"r{r}_{i}")(x)
                if x.shape[-1] > r:
                    x = F.avg_pool2d(x, x.shape[-1] // r)
            features[r] = x
        return features


class Decoder(nn.Module):
    """Both paths -> logits ``[B*N, C, S, S]``."""

    def __init__(self, config: Any, channels: int, image_size: int):
        super().__init__()
        self.levels, self.image_size = parse_levels(config.decoder)[::-1], image_size
        self.from_z = nn.Conv2d(config.width, config.width, 3, padding=1)
        self.from_c = nn.Conv2d(config.width, config.width, 3, padding=1)
        for r, depth in self.levels:
            for i in range(depth):
                setattr(self, f"r{r}_{i}", Bottleneck(config.width, config.width, config.width, r, residual=True))
        self.pixels = nn.Conv2d(config.width, channels, 1)

    def forward(self, xz: Tensor, xc: Tensor, num: int) -> Tensor:
        x = self.from_z(xz) + each_image(self.from_c(xc), num)
        for r, depth in self.levels:
            for i in range(depth):
                x = upsample(getattr(self, f"r{r}_{i}")(x), r)
        border = (x.shape[-1] - self.image_size) // 2
        if border:
            x = x[..., border:-border, border:-border]
        return in_float32(self.pixels, x)


class ScaVae(nn.Module):
    """The model of a section ``model`` with ``name="scha_vae"``.

    Args:
      config: the section; see `NEEDED` for what is not done here.
      image_shape: (H, W, C) of our images, 28 or 32 pixels.

    Raises:
      ValueError: a config this model does not cover.
    """

    def __init__(self, config: Any, image_shape: tuple[int, int, int]):
        super().__init__()
        if wrong := uncovered(config):
            raise ValueError("the PyTorch peer does not cover " + ", ".join(wrong))
        size, _, channels = image_shape
        self.border = 2 if size == 28 else 0
        resolutions = [r for r, depth in reversed(parse_levels(config.latents)) for _ in range(depth)]
        self.encoder = Encoder(config, channels)
        self.nodes = nn.ModuleList()
        for i, r in enumerate(resolutions):
            self.nodes += [SetNode(config, r, top=i == 0), ImageNode(config, r)]
        self.decoder = Decoder(config, channels, size)
        self.start = nn.ParameterDict({k: nn.Parameter(torch.zeros(1, config.width, 1, 1)) for k in ("xc", "xz")})
        self._scale(1 / math.sqrt(len(resolutions)))

    @torch.no_grad()
    def _scale(self, latents: float) -> None:
        """Residual outputs start small, priors at N(0, 1), as ours do; biases at zero."""
        for name, p in self.named_parameters():
            if name.endswith("bias"):
                p.zero_()
            if name.endswith(("add_value.weight", "from_c.weight", "from_z.weight")) and name.startswith("nodes"):
                p.mul_(latents)
            if name.endswith("expand.weight"):
                depth = sum(n for _, n in getattr(self, name.split(".")[0]).levels) if "nodes" not in name else 0
                if "prior" in name:
                    p.zero_()
                elif "residual_block" in name or depth:
                    p.mul_(depth**-0.5 if depth else latents)

    def forward(self, images: Tensor, noise: list[Tensor] | None = None) -> Output:
        """One pass of training.

        Args:
          images: ``[B, N, C, H, W]`` in [0, 1].
          noise: per latent, ``[B, C, r, r]`` of c and ``[B*N, C, r, r]`` of z; drawn if None.
        """
        rows, num = images.shape[:2]
        flat = images.flatten(0, 1)
        features = self.encoder(F.pad(flat, [self.border] * 4))
        xc, xz = (self.start[k].expand(rows, -1, -1, -1) for k in ("xc", "xz"))
        posteriors, priors, kls = [], [], []
        for i, node in enumerate(self.nodes):
            eps = None if noise is None else noise[i]
            posterior, prior, xc, xz = node(xc, xz, features[node.resolution], num, eps)
            posteriors.append(posterior)
            priors.append(prior)
            kls.append(kl(posterior, prior))
        logits = self.decoder(xz, xc, num)
        log_px = -F.binary_cross_entropy_with_logits(logits, flat, reduction="none").sum((1, 2, 3))
        return Output(posteriors, priors, log_px.view(rows, num), sum(kls[::2]), sum(kls[1::2]).view(rows, num))

    @torch.no_grad()
    def load_from(self, params: Any) -> None:
        """Takes over ``params`` of our model of the same config (a tree of arrays).

        Raises:
          ValueError: names or shapes that do not match.
        """
        state = {}
        for path, value in _leaves(params):
            names = [n for n in path if n not in ("Conv_0", "Dense_0")]
            state[".".join(names)] = value
        mine, given = self.state_dict(), {}
        for name, value in state.items():
            name, value = _as_torch(name, torch.tensor(value))
            given[name] = value
        wrong = [n for n in mine.keys() | given.keys() if n not in mine or n not in given]
        wrong += [n for n in mine.keys() & given.keys() if mine[n].shape != given[n].shape]
        if wrong:
            raise ValueError(f"parameters of another model: {', '.join(sorted(wrong)[:5])} do not match")
        self.load_state_dict(given)


def loss_of(output: Output, alpha: float = 0.0) -> Tensor:
    """Nats per image: (1 + alpha) (-log p) + KL / (1 + alpha); the NELBO at alpha = 0."""
    divergence = output.kl_z.mean() + output.kl_c.mean() / output.kl_z.shape[1]
    return -(1 + alpha) * output.log_px.mean() + divergence / (1 + alpha)


def _leaves(tree: Any, path: tuple[str, ...] = ()):
    if hasattr(tree, "items"):
        for key, value in tree.items():
            yield from _leaves(value, (*path, key))
    else:
        yield path, tree


def _as_torch(name: str, value: Tensor) -> tuple[str, Tensor]:
    """Our name and array -> PyTorch's: kernels [.., in, out] become [out, in, h, w]."""
    *parents, last = name.split(".")
    if parents[0] == "start":
        return name, value.reshape(1, -1, 1, 1)
    if parents[0].startswith("nodes_"):
        parents = ["nodes", parents[0].removeprefix("nodes_"), *parents[1:]]
    if last == "value_bias":
        parents, last = [*parents, "value"], "bias"
    elif last in ("key", "value"):  # [in, heads, out of a head]
        parents, last, value = [*parents, last], "kernel", value.flatten(1)
    if last == "kernel":
        last, value = "weight", value.permute(3, 2, 0, 1) if value.ndim == 4 else value.T[:, :, None, None]
    return ".".join([*parents, last]), value.contiguous()
