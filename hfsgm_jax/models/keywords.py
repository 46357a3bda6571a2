"""Keyword arguments that several constructors share: type, valid values, meaning."""

from typing import Annotated

from hfsgm_jax.distributions import LIKELIHOODS
from hfsgm_jax.keys import FLAG, Key, one_of, whole
from hfsgm_jax.nn.aggregate import AGGREGATORS

_SIZE = whole(1, 65_536)

Width = Annotated[int, Key(_SIZE, "features of every hidden layer")]
AChannels = Annotated[int, Key(whole(0, 65_536), "size of the latent of a group (0: none)")]
CChannels = Annotated[int, Key(_SIZE, "size of a latent of the set (per position)")]
ZChannels = Annotated[int, Key(_SIZE, "size of a latent of an image (per position)")]
Layers = Annotated[int, Key(whole(1, 1000), "stochastic layers L")]
Blocks = Annotated[int, Key(whole(1, 1000), "layers of a residual network; VHE: convolutions of its decoder")]
EncoderWidth = Annotated[int, Key(_SIZE, "features of the first convolutions; then twice, four times as many")]
Pooling = Annotated[str, Key(one_of(table=lambda: AGGREGATORS), "pooling of a set's images: mean, max or attention")]
Heads = Annotated[int, Key(_SIZE, "attention heads of aggregate='lag'")]
Condition = Annotated[str, Key(one_of("bias", "film"), "how c enters the image latents")]
PriorSeesImages = Annotated[bool, Key(FLAG, "p(c_l) sees the mean of Z_{l+1} (eq. 3)")]
LikelihoodName = Annotated[str, Key(one_of(table=lambda: LIKELIHOODS), "p(x | latents)")]
PixelCNNLayers = Annotated[int, Key(whole(0, 1000), "gated layers of an autoregressive head (0: independent pixels)")]
PixelCNNWidth = Annotated[int, Key(_SIZE, "features of the autoregressive head")]
Dtype = Annotated[str, Key(one_of("float32", "bfloat16"), "of the layers; parameters and heads stay float32")]
