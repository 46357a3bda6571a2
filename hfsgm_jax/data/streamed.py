"""Images that stay on disk: an array that reads what it is indexed with."""

import dataclasses
from typing import Any

import numpy as np

from hfsgm_jax.data.resize import resize_images


@dataclasses.dataclass(frozen=True)
class StreamedImages:
    """``[n, H, W, C]`` uint8, read, decoded and resized when indexed, kept nowhere.

    The first axis takes an integer, a slice, integers of any shape or bools ``[n]``; the result is a numpy array.

    Attributes:
      raw: random access to the raw images, with `take` and `subset`, in this array's order.
      resize, image_size, channels: as in the config's section `data`.
    """

    raw: Any
    resize: str
    image_size: int
    channels: int

    dtype = np.dtype(np.uint8)
    ndim = 4

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.raw), self.image_size, self.image_size, self.channels

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, index: Any) -> np.ndarray:
        index = np.arange(len(self))[index]
        if index.size == 0:
            return np.zeros((*index.shape, *self.shape[1:]), self.dtype)
        images = resize_images(self.raw.take(index.ravel()), self.resize, self.image_size, self.channels)
        return images.reshape(*index.shape, *self.shape[1:])

    def subset(self, index: np.ndarray) -> "StreamedImages":
        """Those at ``index`` (integers, or bools over all), in this order; reads nothing."""
        return dataclasses.replace(self, raw=self.raw.subset(index))


def subset(images: np.ndarray | StreamedImages, index: np.ndarray) -> np.ndarray | StreamedImages:
    """``images[index]``, without reading what is streamed."""
    return images.subset(index) if isinstance(images, StreamedImages) else images[index]
