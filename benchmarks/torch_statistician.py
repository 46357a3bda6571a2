"""NS and CNS, with mean or LAG, in PyTorch, peers of `torch_peer`: vectors ``[B, C]``, maps ``[B, C, 4, 4]``."""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.torch_scha_vae import Lag, Normal, Output, in_float32

GRID = 4  # positions per side of a map


class Normed(nn.Module):
    """A layer without bias, batch normalisation and, unless it ends a residual network, ELU."""

    def __init__(self, layer: nn.Module, features: int, elu: bool = True):
        super().__init__()
        self.layer, self.elu = layer, elu
        self.norm = (nn.BatchNorm1d if isinstance(layer, nn.Linear) else nn.BatchNorm2d)(features)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.layer(x))
        return F.elu(x) if self.elu else x


def linear(inputs: int, outputs: int, maps: bool, bias: bool = True) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 1, bias=bias) if maps else nn.Linear(inputs, outputs, bias)


def conv(inputs: int, outputs: int, stride: int = 1, padding: int = 1, elu: bool = True) -> Normed:
    return Normed(nn.Conv2d(inputs, outputs, 3, stride, padding, bias=False), outputs, elu)


class Residual(nn.Sequential):
    """Layers with ELU between them, then ELU(out + x)."""

    def __init__(self, config: Any, maps: bool):
        width, last = config.width, config.blocks - 1
        dense = lambda elu: Normed(nn.Linear(width, width, bias=False), width, elu)
        layers = [conv(width, width, elu=i < last) if maps else dense(i < last) for i in range(last + 1)]
        super().__init__(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return F.elu(super().forward(x) + x)


class Head(nn.Module):
    """Mean and log-variance, batch-normalised: per channel on maps, by two numbers on vectors."""

    def __init__(self, width: int, channels: int, maps: bool):
        super().__init__()
        self.layer = linear(width, 2 * channels, maps, bias=not maps)
        self.norm = nn.BatchNorm2d(2 * channels) if maps else nn.BatchNorm1d(1, eps=1e-3)

    def forward(self, x: Tensor) -> Normal:
        x = in_float32(self.layer, x)
        x = self.norm(x) if x.ndim == 4 else self.norm(x[:, None])[:, 0]
        mean, log_variance = x.chunk(2, 1)
        return Normal(mean, (0.5 * log_variance.clamp(-10, 10)).exp())


class ImageNode(nn.Module):
    """z_l of every image: q sees its features, z_{l+1} and c, p the latents alone."""

    def __init__(self, config: Any, maps: bool, top: bool):
        super().__init__()
        width, of_c, of_z = config.width, config.c_channels, config.z_channels
        self.q_features = linear(width, width, maps)
        self.q_from_c, self.p_from_c = linear(of_c, width, maps), linear(of_c, width, maps)
        if not top:
            self.q_from_z, self.p_from_z = linear(of_z, width, maps), linear(of_z, width, maps)
        self.q_net, self.p_net = Residual(config, maps), Residual(config, maps)
        self.q_head, self.p_head = Head(width, of_z, maps), Head(width, of_z, maps)

    def forward(self, features: Tensor, z: Tensor | None, c: Tensor, num: int) -> tuple[Normal, Normal]:
        each_image = lambda x: x.repeat_interleave(num, 0)
        q, p = self.q_features(features) + each_image(self.q_from_c(c)), self.p_from_c(c)
        if z is not None:
            q, p = q + self.q_from_z(z), each_image(p) + self.p_from_z(z)
        posterior, prior = self.q_head(self.q_net(F.elu(q))), self.p_head(self.p_net(F.elu(p)))
        return posterior, prior if z is not None else Normal(*map(each_image, prior))


class Statistician(nn.Module):
    """The model of a section ``model`` that `torch_peer.check` lets pass, for images of 28 pixels ``(28, 28, C)``."""

    def __init__(self, config: Any, image_shape: tuple[int, int, int]):
        super().__init__()
        maps, width, most = config.name == "cns", config.width, 4 * config.encoder_width
        features = [image_shape[2], *(k * config.encoder_width for k in (1, 1, 1, 2, 2, 2, 4, 4, 4))]
        self.encoder = nn.Sequential(*(conv(i, o, 1 + (n % 3 == 2)) for n, (i, o) in enumerate(pairwise(features))))
        dense = lambda inputs: Normed(linear(inputs, width, maps, bias=False), width)
        self.features = dense(most if maps else GRID**2 * most)
        self.pool = Lag(width, config.heads) if config.aggregate == "lag" else None
        self.after_pool = Residual(config, maps) if maps else nn.Sequential(dense(width), dense(width))
        self.head = Head(width, config.c_channels, maps)
        self.nodes = nn.ModuleList(ImageNode(config, maps, top=i == 0) for i in range(config.layers))
        self.from_z = linear(config.layers * config.z_channels, width, maps)
        self.from_c = linear(config.c_channels, width, maps)
        self.grid = linear(width, most if maps else GRID**2 * most, maps)
        self.decoder = nn.Sequential()
        for i, o in pairwise((most, most, most // 2, most // 4)):
            twice = Normed(nn.ConvTranspose2d(o, o, 2, 2, bias=False), o)
            self.decoder.extend([conv(i, o), conv(o, o, padding=int(o > most // 4)), twice])
        self.pixels = nn.Conv2d(most // 4, image_shape[2], 1)

    def forward(self, images: Tensor, noise: list[Tensor] | None = None) -> Output:
        """One pass of training; see `torch_scha_vae.ScaVae`."""
        (rows, num), flat = images.shape[:2], images.flatten(0, 1)
        maps, noise = isinstance(self.grid, nn.Conv2d), noise or [None] * (1 + len(self.nodes))
        x = self.encoder(flat)
        features = self.features(x if maps else x.flatten(1))
        if self.pool is None:
            pooled = features.unflatten(0, (rows, num)).mean(1)
        else:
            pooled = self.pool(features if maps else features[..., None, None], num).view(rows, *features.shape[1:])
        posteriors = [self.head(self.after_pool(pooled))]
        priors = [Normal(torch.zeros_like(posteriors[0].mean), torch.ones_like(posteriors[0].std))]
        c, values = posteriors[0].sample(noise[0]), []
        for node, eps in zip(self.nodes, noise[1:], strict=True):
            posterior, prior = node(features, values[-1] if values else None, c, num)
            posteriors.append(posterior)
            priors.append(prior)
            values.append(posterior.sample(eps))
        x = F.elu(self.from_z(torch.cat(values, 1)) + self.from_c(c).repeat_interleave(num, 0))
        x = self.grid(x)
        logits = in_float32(self.pixels, self.decoder(x if maps else x.unflatten(1, (-1, GRID, GRID))))
        log_px = -F.binary_cross_entropy_with_logits(logits, flat, reduction="none").sum((1, 2, 3))
        kl_c, *kl_z = [q.kl(p) for q, p in zip(posteriors, priors)]
        return Output(posteriors, priors, log_px.view(rows, num), kl_c, sum(kl_z).view(rows, num))
