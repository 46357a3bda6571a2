"""The PixelCNN Variational Homoencoder: a map c of the set and a vector t of each image (VHE section 4, 6.4).

With a style (factorial VHE, eq. 15) a vector s is shared by the images of one style, whatever their class.
"""

import functools
from typing import Annotated

import jax.numpy as jnp

from hfsgm_jax.distributions import softplus_normal
from hfsgm_jax.errors import ConfigError
from hfsgm_jax.keys import Key, one_of, whole
from hfsgm_jax.models import keywords as kw
from hfsgm_jax.models.base import Node, SetModel
from hfsgm_jax.models.constructor import ImageShape, check_images, constructor, of_pixels
from hfsgm_jax.nn.autoregressive import AutoregressiveNormal
from hfsgm_jax.nn.layers import Conv, Dense
from hfsgm_jax.nn.pixelcnn import PixelCNN
from hfsgm_jax.nn.spatial_transformer import HomoencoderDecoder, HomoencoderFeatures
from hfsgm_jax.trace import SET, STYLE, masked_mean


class MapNode(Node):
    """c: a map. q(c; D) is one convolution of the mean of the aligned context images.

    Attributes:
      size: of the map.
      kernel: side of that convolution; as large as the map, it sees all of it.
      prior_form: of p(c): ``normal``: N(0, I); ``pixelcnn``: a PixelCNN over its positions.
      features: of that PixelCNN.
    """

    plate: str = SET
    size: int = 28
    kernel: int = 28
    prior_form: str = "pixelcnn"
    features: int = 64

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.size, self.size, self.channels)

    def setup(self):
        before = (self.kernel - 1) // 2
        self.to_moments = Conv(2 * self.channels, self.kernel, 1, ((before, self.kernel - 1 - before),) * 2)
        if self.prior_form != "normal":
            self.net = PixelCNN(2 * self.channels, self.channels, self.features)

    def prior(self, state, sets, train):
        if self.prior_form == "normal":
            return super().prior(state, sets, train)
        if self.is_initializing():
            self.net(jnp.zeros((1, 1, *self.event_shape)))
        return AutoregressiveNormal(self.net.variables, self.net.clone(parent=None)), None

    def posterior(self, state, features, sets, train):
        return softplus_normal(self.to_moments(masked_mean(features["aligned"], self.context(sets)))), None


class StyleNode(Node):
    """s: a vector shared by the images of a style; q(s; D) from the mean of their features."""

    plate: str = STYLE

    def setup(self):
        self.to_moments = Dense(2 * self.channels, dtype=jnp.float32)

    def posterior(self, state, features, sets, train):
        return softplus_normal(self.to_moments(masked_mean(features["style"], self.context(sets)))), None


class PositionNode(Node):
    """t: a vector, where an image sees c; q(t; x) from the image alone."""

    def posterior(self, state, features, sets, train):
        return softplus_normal(features["t"]), None


ContextKernel = Annotated[int, Key(whole(0, 1000), "side of the convolution of q(c; D) (0: as large as the images)")]
ContextPrior = Annotated[str, Key(one_of("pixelcnn", "normal"), "p(c): a PixelCNN, or N(0, I)")]
PriorWidth = Annotated[int, Key(whole(1, 65_536), "features of the PixelCNN of p(c)")]


@constructor("pixelcnn_vhe")
def pixelcnn_vhe(
    image_shape: ImageShape = (28, 28, 1),
    *,
    width: Annotated[int, Key(whole(4, 65_536), "features of the decoder's convolutions")] = 64,
    c_channels: kw.CChannels = 8,
    z_channels: kw.ZChannels = 16,
    style_channels: Annotated[int, Key(whole(0, 65_536), "size of the latent of a style (0: none)")] = 0,
    blocks: kw.Blocks = 5,
    context_kernel: ContextKernel = 0,
    context_prior: ContextPrior = "pixelcnn",
    prior_width: PriorWidth = 64,
    likelihood: kw.LikelihoodName = "bernoulli",
    pixelcnn_layers: kw.PixelCNNLayers = 2,
    pixelcnn_width: kw.PixelCNNWidth = 64,
    dtype: kw.Dtype = "float32",
) -> SetModel:
    """The PixelCNN VHE (Hewitt et al. 2018, section 4): a map c of the class, warped by an image's own latent t.

    With a style: the factorial VHE (eq. 15), content c of the class and style s of images of any class.
    """
    check_images(image_shape)
    size, kernel = image_shape[0], context_kernel or image_shape[0]
    if kernel > size:
        raise ConfigError(f"context_kernel={kernel} is larger than the images, {size} pixels (0: as large)")
    fields, out_channels = of_pixels(image_shape, likelihood, pixelcnn_layers, pixelcnn_width, dtype)
    c = MapNode(size=size, channels=c_channels, kernel=kernel, prior_form=context_prior, features=prior_width)
    style = (StyleNode(channels=style_channels),) if style_channels else ()
    features = dict(align_features=width // 4, features=width // 2, styled=bool(style), dtype=jnp.dtype(dtype))
    return SetModel(
        encoder=HomoencoderFeatures(z_channels, **features),
        nodes=(c, *style, PositionNode(channels=z_channels)),
        decoder=HomoencoderDecoder(width, None if pixelcnn_layers else out_channels, blocks, jnp.dtype(dtype)),
        **fields,
    )


_STYLED = dict(image_shape=(28, 28, 3), style_channels=6, likelihood="discretized_logistics", pixelcnn_layers=0)
factorial_vhe = constructor("factorial_vhe")(functools.partial(pixelcnn_vhe.__wrapped__, **_STYLED))
