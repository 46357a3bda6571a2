"""A user's images at the border of a model: checked, scaled to [0, 1], converted if asked."""

from typing import Any

import numpy as np

from hfsgm_jax.errors import UserError


def model_images(images: Any, image_shape: tuple[int, int, int], resize: bool = False) -> np.ndarray:
    """Images as the model takes them: ``[N, H, W, C]`` float32 in [0, 1].

    Args:
      images: ``[N, H, W, C]`` or ``[N, H, W]``, N at least 1; bool, uint8 in 0..255 or float in [0, 1].
      image_shape: (H, W, C) of the model.
      resize: convert another size (centred square, averaged) and grey from or to RGB.

    Raises:
      UserError: another shape, dtype or range.
    """
    x = np.asarray(images)
    height, width, channels = image_shape
    need = f"the model takes [N, {height}, {width}, {channels}]" + (
        f" or [N, {height}, {width}]" if channels == 1 else ""
    )
    if x.ndim not in (3, 4) or 0 in x.shape:
        raise UserError(f"images of shape {list(x.shape)} were given; {need}, N at least 1")
    x = _unit_range(x)
    if x.ndim == 3:
        x = x[..., None]
    if x.shape[1:] == tuple(image_shape):
        return x
    given = f"images of shape {list(np.shape(images))} were given; {need}"
    if not resize:
        raise UserError(f"{given} (resize=True converts)")
    if x.shape[-1] not in (1, 3):
        raise UserError(f"{given}, and only 1 (grey) and 3 channels (RGB) can be converted into each other")
    return _convert(x, height, channels)


def _unit_range(x: np.ndarray) -> np.ndarray:
    """bool, uint8 or float -> float32 in [0, 1]."""
    if x.dtype == np.uint8:
        return x.astype(np.float32) / 255
    need = "uint8 in 0..255 or float in [0, 1] is needed"
    if x.dtype != bool and not np.issubdtype(x.dtype, np.floating):
        raise UserError(f"images of dtype {x.dtype} were given; {need}")
    x = x.astype(np.float32)
    low, high = x.min(), x.max()
    if not (0 <= low and high <= 1):  # also where one is NaN
        raise UserError(f"float images from {low:g} to {high:g} were given; {need}")
    return x


def _convert(x: np.ndarray, size: int, channels: int) -> np.ndarray:
    from hfsgm_jax.data.resize import resize_images  # the same as that of the training data

    levels = [np.round(image * 255).astype(np.uint8) for image in x]
    return resize_images(levels, "box", size, channels).astype(np.float32) / 255
