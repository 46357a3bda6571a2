"""SCHA-VAE: a hierarchy of (c_l, z_l) pairs over growing resolutions (paper section 3.2, fig. 3).

Two deterministic paths run top-down: xc ``[B, 1, r, r, W]`` of the set and xz ``[B, N, r, r, W]``
of its images (one slot until the first z, so that nothing is computed twice).
"""

import math
from typing import Annotated, Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from hfsgm_jax.distributions import NORMALS, Normal
from hfsgm_jax.errors import ConfigError
from hfsgm_jax.keys import FLAG, Key, one_of, text, whole
from hfsgm_jax.models import keywords as kw
from hfsgm_jax.models.base import Node, SetModel
from hfsgm_jax.models.constructor import ImageShape, check_heads, check_images, constructor, of_pixels
from hfsgm_jax.nn.aggregate import Aggregate
from hfsgm_jax.nn.bottleneck import Bottleneck, Levels, PyramidDecoder, PyramidEncoder
from hfsgm_jax.nn.layers import Dense, padded_size, scaled_init, upsample
from hfsgm_jax.trace import SET, Sets, masked_mean


@flax.struct.dataclass
class Paths:
    """The state of the traversal: the set path and the image path."""

    xc: jax.Array
    xz: jax.Array


class Start(nn.Module):
    """The learned beginnings of both paths, at one pixel."""

    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, sets: Sets) -> Paths:
        def learned(name):
            x = self.param(name, nn.initializers.zeros, (1, 1, 1, 1, self.width)).astype(self.dtype)
            return jnp.broadcast_to(x, (sets.num_rows, *x.shape[1:]))

        return Paths(learned("xc"), learned("xz"))


class PathNode(Node):
    """Common base of set and image nodes: a block per distribution, value and residual added.

    Attributes:
      resolution: r of this layer.
      width: W of both paths.
      scale: 1/sqrt(L), on everything this layer adds to a path.
      std: how standard deviations are made, a name in `distributions.NORMALS`.
    """

    resolution: int = 1
    width: int = 128
    scale: float = 1.0
    std: str = "softplus"
    dtype: Any = jnp.float32

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.resolution, self.resolution, self.channels)

    def _block(self, features: int, **kwargs) -> nn.Module:
        return Bottleneck(features, self.width, self.resolution, dtype=self.dtype, **kwargs)

    def _inject(self) -> Dense:
        return Dense(self.width, kernel_init=scaled_init(self.scale), dtype=self.dtype)

    def enter(self, state: Paths, sets: Sets) -> Paths:
        return Paths(upsample(state.xc, self.resolution), upsample(state.xz, self.resolution))

    def skip(self, state: Paths, zeros: jax.Array) -> Paths:
        return state

    def _split(self, params: jax.Array) -> tuple[Normal, jax.Array]:
        """Moments and residual from the prior's block, whose last layer starts at zero."""
        p = 2 * self.channels
        return NORMALS[self.std](params[..., :p]), params[..., p:].astype(self.dtype)


class SetNode(PathNode):
    """c_l: q sees the context's features and its images' z of the layer above; p sees xc.

    Attributes:
      top: there is no z above.
      prior_sees_images: the moments of p(c_l) also see the mean of z_{l+1} over the present slots
        (eq. 3); the residual that goes on down does not.
    """

    plate: str = SET
    top: bool = False
    aggregate: str = "mean"
    heads: int = 4
    prior_sees_images: bool = False

    def setup(self):
        c, w = 2 * self.channels, self.width
        if self.prior_sees_images:
            self.prior_moments = self._block(c, scale=0.0, head=True)
            self.prior_residual = self._block(w, scale=0.0)
        else:
            self.prior_block = self._block(c + w, scale=0.0, head=True)
        self.posterior_block = self._block(c, head=True)
        self.pool = Aggregate(self.aggregate, self.heads, self.dtype)
        self.add_value = self._inject()
        self.residual_block = self._block(w, scale=self.scale, residual=True)
        if not self.top:
            self.from_z = self._inject()

    def prior(self, state, sets, train):
        if not self.prior_sees_images:
            return self._split(self.prior_block(state.xc))
        seen = state.xc + self.from_z(masked_mean(_all_slots(state.xz, sets), sets.present))
        return NORMALS[self.std](self.prior_moments(seen)), self.prior_residual(state.xc)

    def posterior(self, state, features, sets, train):
        evidence = state.xc + features[self.resolution]
        if not self.top:
            evidence = evidence + self.from_z(state.xz)
        pooled, weights = self.pool(evidence, self.context(sets))
        return NORMALS[self.std](self.posterior_block(pooled)), weights

    def update(self, state, value, residual):
        xc = state.xc + residual + self.add_value(value.astype(self.dtype))
        return state.replace(xc=self.residual_block(xc))


class ImageNode(PathNode):
    """z_l of every image: q sees its features and the image path, p the image path alone."""

    def setup(self):
        z, w = 2 * self.channels, self.width
        self.from_c = self._inject()
        self.prior_block = self._block(z + w, scale=0.0, head=True)
        self.posterior_block = self._block(z, head=True)
        self.add_value = self._inject()
        self.residual_block = self._block(w, scale=self.scale, residual=True)

    def enter(self, state, sets):
        state = super().enter(state, sets)
        return state.replace(xz=state.xz + self.from_c(state.xc))

    def prior(self, state, sets, train):
        return self._split(self.prior_block(state.xz))

    def posterior(self, state, features, sets, train):
        evidence = jnp.concatenate([_all_slots(state.xz, sets), features[self.resolution]], -1)
        return NORMALS[self.std](self.posterior_block(evidence)), None

    def update(self, state, value, residual):
        xz = state.xz + residual + self.add_value(value.astype(self.dtype))
        return state.replace(xz=self.residual_block(xz))


def _all_slots(x: jax.Array, sets: Sets) -> jax.Array:
    """``[B, N or 1, ...]`` -> ``[B, N, ...]``."""
    return jnp.broadcast_to(x, (x.shape[0], sets.num_slots, *x.shape[2:]))


Pyramid = Annotated[str, Key(text("'resolution-depth,...', high to low: '8-6,4-6,1-3'"), "resolution-depth pairs")]
Context = Annotated[str, Key(one_of("full", "top_left"), "positions of c in the decoder: all, or the reference's one")]
Std = Annotated[str, Key(one_of(table=lambda: NORMALS), "standard deviations: softplus, or the reference's exp")]


@constructor("scha_vae")
def scha_vae(
    image_shape: ImageShape = (28, 28, 1),
    *,
    width: kw.Width = 128,
    c_channels: kw.CChannels = 32,
    z_channels: kw.ZChannels = 32,
    aggregate: kw.Pooling = "mean",
    heads: kw.Heads = 4,
    prior_sees_images: kw.PriorSeesImages = False,
    encoder: Pyramid = "32-9,16-6,8-6,4-6,2-3,1-3",
    latents: Pyramid = "8-6,4-6,2-3,1-3",
    decoder: Pyramid = "32-9,16-6,8-6",
    patch: Annotated[int, Key(whole(1, 64), "side of the pixel patches the encoder starts from (1: pixels)")] = 1,
    border: Annotated[str, Key(one_of("pad", "nearest"), "28 to 32 pixels: padded, or the reference's resize")] = "pad",
    decoder_context: Context = "full",
    std: Std = "softplus",
    likelihood: kw.LikelihoodName = "bernoulli",
    pixelcnn_layers: kw.PixelCNNLayers = 0,
    pixelcnn_width: kw.PixelCNNWidth = 64,
    loop: Annotated[bool, Key(FLAG, "layers of one resolution as a compiled loop: less memory, more time")] = False,
    dtype: kw.Dtype = "float32",
) -> SetModel:
    """SCHA-VAE (Giannone and Winther 2022, section 3.2): pairs of c_l and z_l at growing resolutions.

    Its strings list resolutions and the number of blocks (or latent layers) at each, high to low.
    """
    check_images(image_shape)
    check_heads(aggregate, width, heads)
    if width % 4:
        raise ConfigError(f"width={width} is no multiple of 4: blocks work on a quarter of it")
    levels = _check_pyramids(padded_size(image_shape[0]), patch, encoder=encoder, latents=latents, decoder=decoder)
    fields, out_channels = of_pixels(image_shape, likelihood, pixelcnn_layers, pixelcnn_width, dtype)
    look = dict(width=width, dtype=jnp.dtype(dtype))
    pixels = dict(patch=patch, border=border, loop=loop)
    pool = dict(aggregate=aggregate, heads=heads)
    pixels_out = dict(image_size=image_shape[0], out_channels=out_channels, context=decoder_context)
    resolutions, nodes = [r for r, depth in levels["latents"][::-1] for _ in range(depth)], []
    scale = 1 / math.sqrt(len(resolutions))
    for i, resolution in enumerate(resolutions):
        layer = dict(layer=len(resolutions) - i, resolution=resolution, scale=scale, std=std, **look)
        above = dict(top=i == 0, prior_sees_images=prior_sees_images and i > 0)
        nodes += [SetNode(channels=c_channels, **above, **pool, **layer), ImageNode(channels=z_channels, **layer)]
    return SetModel(
        encoder=PyramidEncoder(levels["encoder"], **pixels, **look),
        nodes=tuple(nodes),
        start=Start(width, jnp.dtype(dtype)),
        decoder=PyramidDecoder(levels["decoder"][::-1], **pixels_out, **pixels, **look),
        prior_sees_images=prior_sees_images,
        loop=loop,
        **fields,
    )


def _check_pyramids(size: int, patch: int, **strings: str) -> dict[str, Levels]:
    """The levels of encoder, latents and decoder, high to low, which have to fit each other and the images."""
    levels = {key: _parse_levels(key, string) for key, string in strings.items()}
    if size % patch:
        raise ConfigError(f"patch={patch} does not divide the {size} pixels the model works on")
    top, latents, decoder = size // patch, levels["latents"], levels["decoder"]
    if levels["encoder"][0][0] != top:
        raise ConfigError(f"encoder={strings['encoder']!r} has to start at {top}: {size} pixels in patches of {patch}")
    if missing := [side for side, _ in latents if side not in dict(levels["encoder"])]:
        raise ConfigError(f"latents={strings['latents']!r}: the encoder has no resolution {missing[0]}")
    if (decoder[0][0], decoder[-1][0]) != (top, latents[0][0]):
        raise ConfigError(f"decoder={strings['decoder']!r} has to go from {top} to {latents[0][0]}, where latents end")
    return levels


def _parse_levels(key: str, string: str) -> Levels:
    """``"8-6,4-2"`` -> ((8, 6), (4, 2)): (resolution, depth), high to low."""
    try:
        levels = tuple((int(side), int(depth)) for side, depth in (part.split("-") for part in string.split(",")))
    except ValueError:
        raise ConfigError(f"{key}={string!r} is no list of resolution-depth pairs such as '8-6,4-6,1-3'") from None
    sides = [side for side, _ in levels]
    if min(map(min, levels)) < 1 or any(high % low or high == low for high, low in zip(sides, sides[1:])):
        need = "resolutions go from high to low, each a divisor of the one before, with a depth of at least 1"
        raise ConfigError(f"{key}={string!r}: {need}")
    return levels
