"""Styles: grey drawings in coloured pens, every image of a data set in one of a few (VHE, section 4.3).

A style is a colour, a width and a hardness of the stroke. An image has its style by its index in the data set, whatever
its class: content (the class) and style are two groupings of the same images. Paper is black, the value that padding,
spatial transformers and absent images have too.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

_SEED = 30  # of the palette and of who has which style: the same in every run
_SIDE = 28  # pixels, of the images that widths are meant for


@functools.cache
def palette(num: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``num`` random styles: hues all around the circle, saturated and bright; thin to thick, soft to hard.

    Returns, float32:
      colour: ``[num, 3]`` RGB in [0, 1].
      width: ``[num]`` pixels at 28x28: the standard deviation of the blur that widens a stroke.
      gain: ``[num]`` contrast after the blur: 1 leaves a soft stroke, more a wide and hard one.
    """
    rng = np.random.default_rng([_SEED, num])
    hue = (rng.permutation(num) + rng.random(num)) / num
    saturation, value = rng.uniform(0.5, 1.0, num), rng.uniform(0.7, 1.0, num)
    shade = np.clip(np.abs((hue[:, None] * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)  # RGB of the pure hue
    colour = value[:, None] * (1 - saturation[:, None] * (1 - shade))
    width = rng.uniform(0.25, 0.9, num)
    # The middle of a stroke one pixel wide stays at full ink: a blurred line is 1 / (sqrt(2 pi) width) high.
    gain = np.maximum(1.0, np.sqrt(2 * np.pi) * width) * rng.uniform(1.0, 2.5, num)
    return tuple(x.astype(np.float32) for x in (colour, width, gain))


def assign(num_images: int, num_styles: int) -> np.ndarray:
    """The style of every image of a data set, ``[n]`` int32: random, and a function of its index alone."""
    return np.random.default_rng([_SEED, num_styles, 1]).integers(0, num_styles, num_images, np.int32)


def render(images: jax.Array, style: jax.Array, num: int) -> jax.Array:
    """Grey images in their styles.

    Args:
      images: ``[..., H, W, C]`` in [0, 1], ink high; of colours, the mean of the channels.
      style: ``[...]`` int32.
      num: S, static.

    Returns:
      ``[..., H, W, 3]`` on the 256 levels of [0, 1]: colour times ink, on black.
    """
    colour, width, gain = map(jnp.asarray, palette(num))
    rows, columns = (_blur(width, n)[style] for n in images.shape[-3:-1])
    ink = jnp.einsum("...ij,...jk,...lk->...il", rows, images.mean(-1), columns)
    ink = jnp.clip(gain[style][..., None, None] * ink, 0, 1)
    return jnp.round(255 * ink[..., None] * colour[style][..., None, None, :]) / 255


def _blur(width: jax.Array, side: int) -> jax.Array:
    """``[S, side, side]``: a matrix per width that blurs along one axis; what is beyond the border is no ink."""
    offset = jnp.arange(-side, side + 1)
    weight = jnp.exp(-0.5 * (offset * _SIDE / side / width[:, None]) ** 2)
    kernel = weight / weight.sum(1, keepdims=True)
    pixel = jnp.arange(side)
    return kernel[:, pixel[:, None] - pixel + side]
