"""Source: a folder with one folder of images per class."""

import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from hfsgm_jax.data.dataset import Dataset, StreamedImages, image_shape
from hfsgm_jax.data.resize import CONTRAST, ink_of, square
from hfsgm_jax.errors import DataError

CORRUPT = ("refuse", "skip")
_NOISE = 26  # levels of ink that are paper: of scans and JPEG files
_SHOWN = 10  # files named in a message


def read(config: Any) -> Dataset:
    """Every image file below each class folder of ``data.path``, cropped to its centred square and resized.

    Files that are not images by their suffix, and hidden ones, are passed over; of transparency and bits see `opaque`.
    With `data.stream` all images are read once to see that they can be, and again when they are used.

    Raises:
      DataError: no classes or images, or one that cannot be read and ``data.corrupt="refuse"``.
    """
    files = list_files(config.path)

    def attempt(file: str) -> np.ndarray | str | None:
        try:
            image = _read_image(file, config)
            return None if config.stream else image
        except DataError as error:
            return str(error)

    with ThreadPoolExecutor() as threads:
        found = list(threads.map(attempt, (file for _, file in files)))
    bad = [image for image in found if isinstance(image, str)]
    good = np.array([i for i, image in enumerate(found) if not isinstance(image, str)], np.int64)
    if bad:
        message = f"{len(bad)} of {len(files)} images in {config.path!r} cannot be read: {_some(bad)}."
        if config.corrupt == "refuse" or not len(good):
            raise DataError(message + " Repair or remove them, or set data.corrupt=skip to use the others.")
        warnings.warn(message + " They are left out (data.corrupt=skip).", stacklevel=4)
    shape = image_shape(config)
    images = StreamedImages(opener(config), good, shape) if config.stream else np.stack([found[i] for i in good])
    return Dataset.from_arrays(images, [files[i][0] for i in good], info={"corrupt_images": len(bad)})


def opener(config: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Positions among the folder's files -> their images ``[k, H, W, C]`` uint8."""
    files = [file for _, file in list_files(config.path)]
    return lambda positions: np.stack([_read_image(files[i], config) for i in positions])


def list_files(folder: str) -> list[tuple[str, str]]:
    """(class name, file) of every image file of every class folder in ``folder``, sorted.

    Raises:
      DataError: there is no such folder, or no image in it.
    """
    path = os.path.abspath(os.path.expanduser(folder))
    if not os.path.isdir(path):
        raise DataError(f"{folder!r} is not a folder with one folder of images per class.")
    suffixes, files = set(Image.registered_extensions()), []
    names = [entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith(".")]
    for name in sorted(names):
        for root, folders, members in os.walk(os.path.join(path, name)):
            folders.sort()
            images = (member for member in sorted(members) if os.path.splitext(member)[1].lower() in suffixes)
            files += [(name, os.path.join(root, member)) for member in images if not member.startswith(".")]
    if not files:
        raise DataError(f"no classes in {folder!r}: it must hold one folder of images per class.")
    if empty := sorted(set(names) - {name for name, _ in files}):
        warnings.warn(f"Classes without images in {path!r} are left out: {_some(empty)}.", stacklevel=1)
    return files


def open_image(file: str, channels: int, size: int = 0) -> Image.Image:
    """An image file, grey (1 channel) or RGB (3), see `opaque`.

    Args:
      size: of the side that is needed: big photographs are decoded at a fraction of their size.

    Raises:
      DataError: it cannot be read.
    """
    try:
        if os.path.exists(file) and not os.path.isfile(file):  # opening a pipe would wait for ever
            raise OSError("not a regular file")
        with Image.open(file) as image:
            if image.format == "JPEG" and size:
                image.draft("RGB", (2 * size, 2 * size))  # a fraction of the time
            image.load()
            return opaque(image, channels)
    except Exception as error:  # Pillow's decoders raise many kinds of errors on broken files
        raise DataError(f"{file} ({type(error).__name__}: {error})") from error


def _read_image(file: str, config: Any) -> np.ndarray:
    """``[image_size, image_size, channels]`` uint8."""
    image = open_image(file, config.channels, config.image_size)
    try:
        return fitted(image, config.image_size, config.channels, config.ink)
    except DataError as error:
        raise DataError(f"{file} ({error})") from None


def fitted(image: Image.Image, size: int, channels: int, ink: bool) -> np.ndarray:
    """The centred square as ``[size, size, channels]`` uint8; with ``ink`` a drawing, light on dark.

    Raises:
      DataError: ``ink``, and no strokes are seen.
    """
    levels = np.asarray(square(image, size))
    return (ink_of(levels, _NOISE) if ink else levels).reshape(size, size, channels)


def opaque(image: Image.Image, channels: int) -> Image.Image:
    """Upright, grey or RGB, on white, or on black where nothing would be seen on white.

    Raises:
      DataError: levels that are not finite.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode[0] in "IF":
        image = Image.fromarray(_bytes(np.asarray(image).astype(np.float64)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        on = lambda ground: Image.alpha_composite(Image.new("RGBA", image.size, ground), image)
        darkest, most = on("white").convert("L").getextrema()[0], image.getchannel("A").getextrema()[1]
        image = on("black" if most and darkest > 255 - CONTRAST else "white")
    return image.convert("L" if channels == 1 else "RGB")


def _bytes(levels: np.ndarray) -> np.ndarray:
    """More than 256 levels as uint8: of 8 to 16 bits, as few as hold them; fractions and others by their own range."""
    low, high = levels.min(), levels.max()
    if not np.isfinite(high - low):
        raise DataError("it holds levels that are not finite numbers")
    if low >= 0 and high < 2**16 and (levels == np.rint(levels)).all() and high > 1:
        low, high = 0, next(2**bits - 1 for bits in (8, 10, 12, 14, 16) if high < 2**bits)
    return np.rint(255 * (levels - low) / max(high - low, np.finfo(float).tiny)).astype(np.uint8)


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
