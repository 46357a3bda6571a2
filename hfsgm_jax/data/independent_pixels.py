"""The model of independent pixels: a number that any other model must beat."""

import numpy as np

from hfsgm_jax.data.dataset import Dataset

_CHUNK = 4096  # images at once


def independent_pixel_nll(train: Dataset, test_images: np.ndarray) -> float:
    """NLL of the model that draws each pixel by itself, with its mean over the training images.

    Args:
      train: its images, as uint8 0..255 or float in [0, 1].
      test_images: ``[..., H, W, C]`` uint8 0..255 or float in [0, 1]; grey levels count as probabilities.

    Returns:
      Nats per image.
    """
    top = lambda images: 255.0 if images.dtype == np.uint8 else 1.0
    parts = (train.images[start : start + _CHUNK] for start in range(0, len(train.images), _CHUNK))
    ones = sum(part.sum(0, dtype=np.float64) for part in parts) / top(train.images)
    probability = (ones + 0.5) / (len(train.images) + 1)
    test_images = np.asarray(test_images)
    mean = test_images.reshape(-1, *train.image_shape).mean(0, dtype=np.float64) / top(test_images)
    return float(-(mean * np.log(probability) + (1 - mean) * np.log1p(-probability)).sum())
