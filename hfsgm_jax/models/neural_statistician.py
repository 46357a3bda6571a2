"""VAE, bNS, NS, CNS, HFSGM, CHFSGM (SCHA-VAE paper, section 3) and the hierarchical VHE, with mean, max or LAG.

One kind of set node and one of image node; the members of the family differ in how many of each
there are and in whether latents are vectors or 4x4 maps.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from hfsgm_jax.distributions import exp_normal
from hfsgm_jax.errors import ConfigError
from hfsgm_jax.models import keywords as kw
from hfsgm_jax.models.base import Node, SetModel
from hfsgm_jax.models.constructor import IMAGE_SIZES, ImageShape, check_heads, check_images, constructor, of_pixels
from hfsgm_jax.nn.aggregate import Aggregate
from hfsgm_jax.nn.batch_normalised import GRID, ConvDecoder, ConvEncoder, Head, Merge, PostPool, ResidualNet, grid_side
from hfsgm_jax.nn.layers import Dense
from hfsgm_jax.trace import GROUP, IMAGE, SET

VECTORS, MAPS = False, True  # the latents of a member of the family: ``spatial``
SHARED = SET, GROUP  # plates of shared latents, the one nearest to the images first


def _above(state: dict[str, tuple[jax.Array, ...]], *plates: str) -> jax.Array | None:
    """The last value on the first of these plates that has one."""
    return next((state[plate][-1] for plate in plates if plate in state), None)


class StatisticianNode(Node):
    """Common base of set and image nodes.

    Attributes:
      width: H of the hidden layers.
      spatial: latents are 4x4 maps.
      blocks: layers of a residual net.
      top: nothing is above: p(c_L) = N(0, I), and p(z_L) too where there is no c.
    """

    width: int = 512
    spatial: bool = False
    blocks: int = 3
    top: bool = False
    dtype: Any = jnp.float32

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (GRID, GRID, self.channels) if self.spatial else (self.channels,)


class SetNode(StatisticianNode):
    """c_l of NS (top only) and HFSGM: the images of the set, pooled, each with its z above.

    Also a of the hierarchical VHE, shared by the classes of a group, such as an alphabet (VHE eq. 20).

    Attributes:
      aggregate, heads: pooling of q; p pools by `prior_aggregate`.
      prior_sees_images: p(c_l) pools z_{l+1} over the present slots (eq. 3); else it sees c_{l+1}.
      below_images: there are latents of images above this one (not below the latent of a group).
    """

    plate: str = SET
    aggregate: str = "mean"
    prior_aggregate: str = "mean"
    heads: int = 4
    prior_sees_images: bool = False
    below_images: bool = True

    def setup(self):
        head = dict(width=self.width, channels=self.channels, blocks=self.blocks, dtype=self.dtype)
        self.q_pool = Aggregate(self.aggregate, self.heads, self.dtype)
        self.q_head = PostPool(**head)
        if self.top:
            return
        linear = lambda: Dense(self.width, dtype=self.dtype)
        self.q_from_h, self.q_from_c = linear(), linear()
        self.q_from_z = linear() if self.below_images else None
        self.p_from_c, self.p_head = linear(), PostPool(**head)
        if self.prior_sees_images:
            self.p_from_z = linear()
            self.p_pool = Aggregate(self.prior_aggregate, self.heads, self.dtype)
        # Vectors that LAG does not pool: ELU and a residual net on every image before the pooling.
        nets = not self.spatial and self.aggregate != "lag"
        self.q_net = ResidualNet(self.blocks, self.dtype) if nets else None
        self.p_net = ResidualNet(self.blocks, self.dtype) if nets else None

    def prior(self, state, sets, train):
        if self.top:
            return super().prior(state, sets, train)
        x = from_c = self.p_from_c(_above(state, *SHARED))
        if self.prior_sees_images:
            x = x + self.p_from_z(_above(state, IMAGE))
        x = self.p_net(nn.elu(x), sets.observed, train) if self.p_net else x
        if self.prior_sees_images:
            x, _ = self.p_pool(x, sets.present)
        x = x if self.prior_aggregate == "lag" else x + from_c
        return exp_normal(self.p_head(x, sets.observed, train)), None

    def posterior(self, state, features, sets, train):
        context = self.context(sets)
        if self.top:
            pooled, weights = self.q_pool(features, context)
        else:
            from_c = self.q_from_c(_above(state, *SHARED))
            x = self.q_from_h(features) + from_c
            if self.below_images:
                x = x + self.q_from_z(_above(state, IMAGE))
            x = self.q_net(nn.elu(x), context, train) if self.q_net else x
            pooled, weights = self.q_pool(x, context)
            # c_{l+1} goes around the pooling, except where LAG replaces it outright.
            pooled = pooled if self.aggregate == "lag" else pooled + from_c
        return exp_normal(self.q_head(pooled, sets.observed, train)), weights


class ImageNode(StatisticianNode):
    """z_l of every image given z_{l+1} and c: PriorZ and PosteriorZ of the papers.

    Normalised over the targets: all observed images, or those that the VHE's objectives draw apart from the context.
    """

    film: bool = False
    has_context: bool = True

    def setup(self):
        self.q_merge, self.q_net = Merge(self.width, self.film, self.dtype), ResidualNet(self.blocks, self.dtype)
        self.q_head = Head(self.channels)
        if not self.top or self.has_context:
            self.p_merge, self.p_net = Merge(self.width, self.film, self.dtype), ResidualNet(self.blocks, self.dtype)
            self.p_head = Head(self.channels)

    def prior(self, state, sets, train):
        z, c = _above(state, IMAGE), _above(state, *SHARED)
        if z is None and c is None:
            return super().prior(state, sets, train)
        x = nn.elu(self.p_merge((z, c)))
        return exp_normal(self.p_head(self.p_net(x, sets.target, train), sets.target, train)), None

    def posterior(self, state, features, sets, train):
        z, c = _above(state, IMAGE), _above(state, *SHARED)
        x = nn.elu(self.q_merge((features, z, c)))
        return exp_normal(self.q_head(self.q_net(x, sets.target, train), sets.target, train)), None


def _statistician(
    spatial: bool,
    layers_of_c: str,
    image_shape: ImageShape = (28, 28, 1),
    *,
    width: kw.Width = 512,
    c_channels: kw.CChannels = 32,
    z_channels: kw.ZChannels = 32,
    layers: kw.Layers = 3,
    blocks: kw.Blocks = 3,
    encoder_width: kw.EncoderWidth = 64,
    aggregate: kw.Pooling = "mean",
    heads: kw.Heads = 4,
    condition: kw.Condition = "bias",
    prior_sees_images: kw.PriorSeesImages = False,
    a_channels: kw.AChannels = 0,
    likelihood: kw.LikelihoodName = "bernoulli",
    pixelcnn_layers: kw.PixelCNNLayers = 0,
    pixelcnn_width: kw.PixelCNNWidth = 64,
    dtype: kw.Dtype = "float32",
) -> SetModel:
    """L layers of z, and no latent c of the set (VAE), one (NS, CNS) or L of them (HFSGM, CHFSGM).

    Latents are vectors (NS, HFSGM) or 4x4 maps (CNS, CHFSGM): SCHA-VAE paper, section 3 and appendix. With a latent
    of the group (an alphabet) above c, the hierarchical VHE (VHE eq. 20-24). ``layers_of_c``: none, top or all.
    """
    check_images(image_shape, tuple(s for s in IMAGE_SIZES if grid_side(s) == GRID) if spatial else IMAGE_SIZES)
    check_heads(aggregate, width, heads)
    if prior_sees_images and (layers_of_c != "all" or layers < 2):
        raise ConfigError("prior_sees_images=True needs a latent c below others: hfsgm, chfsgm, or scha_vae")
    fields, out_channels = of_pixels(image_shape, likelihood, pixelcnn_layers, pixelcnn_width, dtype)
    look = dict(width=width, spatial=spatial, blocks=blocks, dtype=jnp.dtype(dtype))
    pool = dict(aggregate=aggregate, prior_aggregate="mean" if spatial else aggregate, heads=heads)
    nodes = [SetNode(plate=GROUP, top=True, channels=a_channels, **pool, **look)] if a_channels else []
    for layer in range(layers, 0, -1):
        top = layer == layers
        if layers_of_c == "all" or (layers_of_c == "top" and top):
            place = dict(layer=layer if layers_of_c == "all" else 1, top=top and not a_channels, below_images=not top)
            nodes.append(SetNode(channels=c_channels, prior_sees_images=prior_sees_images, **place, **pool, **look))
        of_image = dict(channels=z_channels, film=condition == "film", has_context=layers_of_c != "none")
        nodes.append(ImageNode(layer=layer, top=top, **of_image, **look))
    return SetModel(
        encoder=ConvEncoder(width, spatial, encoder_width, jnp.dtype(dtype)),
        nodes=tuple(nodes),
        decoder=ConvDecoder(width, image_shape[0], out_channels, spatial, encoder_width, jnp.dtype(dtype)),
        prior_sees_images=prior_sees_images,
        **fields,
    )


_OF_SETS = ("c_channels", "aggregate", "heads", "condition", "prior_sees_images", "a_channels")
# L layers of z and no latent of the set: what the set models are compared with.
vae = constructor("vae", without=_OF_SETS)(partial(_statistician, VECTORS, "none"))
bns = constructor("bns")(partial(_statistician, VECTORS, "top", layers=1))
ns = constructor("ns")(partial(_statistician, VECTORS, "top"))
cns = constructor("cns")(partial(_statistician, MAPS, "top", width=256))
hfsgm = constructor("hfsgm")(partial(_statistician, VECTORS, "all", prior_sees_images=True))
chfsgm = constructor("chfsgm")(partial(_statistician, MAPS, "all", width=128, prior_sees_images=True))
_VHE = dict(width=256, layers=1, a_channels=64, c_channels=512, z_channels=16)
hierarchical_vhe = constructor("hierarchical_vhe")(partial(_statistician, VECTORS, "top", **_VHE))
