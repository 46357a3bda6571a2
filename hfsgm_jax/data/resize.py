"""Resizing of a source's images to ``[n, image_size, image_size, channels]`` uint8."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from hfsgm_jax.errors import DataError

RESIZES = ("gmn", "box")
CONTRAST = 32  # of 255 levels between ink and paper, at least
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601, as Pillow


def resize_images(images: Sequence[np.ndarray], resize: str, image_size: int, channels: int) -> np.ndarray:
    """Resizes and converts the channels of ``images``, each ``[H, W, C]``.

    Returns ``[n, image_size, image_size, channels]``: uint8, or float32 where the source is (not resized).
    """
    if resize == "gmn":
        return convert_channels(_sample_gmn(images), channels)
    first = images[0]
    if isinstance(images, np.ndarray) and first.shape[:2] == (image_size, image_size):
        return convert_channels(images, channels)
    if first.dtype != np.uint8:
        raise DataError(f"single numbers are not resized: use data.image_size=1, not {image_size}.")
    out = np.empty((len(images), image_size, image_size, channels), np.uint8)
    for i, image in enumerate(images):
        image = convert_channels(image, channels)
        pil = Image.fromarray(image[..., 0] if channels == 1 else image)
        out[i] = np.asarray(square(pil, image_size)).reshape(out.shape[1:])
    return out


def square(image: Image.Image, image_size: int) -> Image.Image:
    """The centred square of ``image``, averaged over boxes to ``image_size`` pixels."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.resize((image_size, image_size), Image.Resampling.BOX, box=(left, top, left + side, top + side))


def convert_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """``[..., C]`` -> ``[..., channels]``, between grey (1) and RGB (3)."""
    have = images.shape[-1]
    if have == channels:
        return images
    if have == 1 and channels == 3:
        return np.repeat(images, 3, axis=-1)
    if have == 3 and channels == 1:
        grey = images.astype(np.float32) @ _GREY
        return (np.rint(grey).astype(np.uint8) if images.dtype == np.uint8 else grey)[..., None]
    need = "only 1 (grey) and 3 channels (RGB) can be converted into each other"
    raise DataError(f"images with {have} channels cannot become images with {channels}: {need}.")


def _sample_gmn(images: Sequence[np.ndarray]) -> np.ndarray:
    """The static binary data of the papers' tables: every 3.75th row and column of the raw drawing."""
    if images[0].shape[:2] != (105, 105):
        raise DataError(f"data.resize='gmn' needs Omniglot's 105x105 images, not {images[0].shape}: use 'box'.")
    index = np.floor(3.75 * np.arange(28)).astype(int)
    sampled = np.stack([image[index][:, index] for image in images])
    if not np.isin(sampled, (0, 255)).all():
        raise DataError("data.resize='gmn' needs Omniglot's binary images, these have grey levels: use 'box'.")
    return sampled


def ink_of(levels: np.ndarray, noise: int = 0) -> np.ndarray:
    """A drawing ``[H, W]`` uint8 as light on dark, from no ink to full ink: paper is what lies on the border.

    Args:
      noise: levels below are no ink.

    Raises:
      DataError: no strokes are seen.
    """
    border = np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]])
    away = np.abs(levels.astype(np.float32) - np.median(border))
    if away.max() < CONTRAST:
        raise DataError("no strokes are seen: dark on light or light on dark is needed, with a plain border")
    ink = np.rint(255 * away / away.max()).astype(np.uint8)
    return np.where(ink < noise, 0, ink).astype(np.uint8)
