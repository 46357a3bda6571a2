"""A user's images at the border of a model: checked, scaled to [0, 1], converted if asked; files, and drawings.

A model of Omniglot knows drawings of one kind only: light ink on dark ground, strokes of one width, on a sheet of 105
pixels. `as_drawing` makes that of a scan, a photograph of handwriting or the canvas of a page.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from hfsgm_jax.data.folder import fitted, opaque, open_image
from hfsgm_jax.data.resize import RESIZES, ink_of, resize_images
from hfsgm_jax.errors import UserError

File = str | os.PathLike | Image.Image
SHEET = 105  # pixels of a side of Omniglot's drawings, which tell the next three (the middle 90 % of 4,820 of them)
STROKE = 4.35  # width of their strokes, twice area by perimeter
SIDES = 0.42, 0.84  # longer side of their ink, of the sheet's
OFF_CENTRE = 0.08  # from the sheet's middle to the ink's, of the sheet's side
_FINER = 2  # strokes are made thinner and thicker in steps of a pixel of a sheet so many times as fine


def model_images(images: Any, image_shape: tuple[int, int, int], resize: bool = False) -> np.ndarray:
    """Images as the model takes them: ``[N, H, W, C]`` float32 in [0, 1].

    Args:
      images: ``[N, H, W, C]`` or ``[N, H, W]``, N at least 1; bool, uint8 (0..255, or 0 and 1) or float in [0, 1].
      image_shape: (H, W, C) of the model.
      resize: convert another size (centred square, averaged) and grey from or to RGB.

    Raises:
      UserError: another shape, dtype or range.
    """
    try:
        x = np.asarray(images)
    except ValueError as error:
        raise UserError(f"the images do not have one shape: {error}") from None
    height, width, channels = image_shape
    need = f"the model takes [N, {height}, {width}, {channels}]" + f" or [N, {height}, {width}]" * (channels == 1)
    given = f"images of shape {list(x.shape)} were given; {need}"
    if x.ndim not in (3, 4) or 0 in x.shape:
        raise UserError(f"{given}, N at least 1")
    x = _unit_range(x if x.ndim == 4 else x[..., None])
    if x.shape[1:] == tuple(image_shape):
        return x
    if not resize:
        raise UserError(f"{given} (resize=True converts)")
    levels = [np.round(image * 255).astype(np.uint8) for image in x]
    return resize_images(levels, "box", height, channels).astype(np.float32) / 255


def _unit_range(x: np.ndarray) -> np.ndarray:
    """bool, uint8 or float -> float32 in [0, 1]."""
    need = "uint8 in 0..255 or float in [0, 1] is needed"
    if x.dtype.kind not in "bf" and x.dtype != np.uint8:
        raise UserError(f"images of dtype {x.dtype} were given; {need}")
    x = x.astype(np.float32) / (255 if x.dtype == np.uint8 and x.max() > 1 else 1)
    low, high = x.min(), x.max()
    if not (0 <= low and high <= 1):  # also where one is NaN
        raise UserError(f"float images from {low:g} to {high:g} were given; {need}")
    return x


def read_images(
    files: File | Sequence[File], image_shape: tuple[int, int, int], drawings: str | None = None
) -> np.ndarray:
    """Image files as a model takes them: ``[N, H, W, C]`` float32 in [0, 1].

    Any size, grey or RGB, 8, 16 or 32 bit, with alpha (see `folder.opaque`). A file of the model's own size is only
    made light on dark, if it is a drawing.

    Args:
      files: paths, or images of Pillow; or a single one.
      image_shape: (H, W, C) of the model.
      drawings: ``gmn`` or ``box``: the files show drawings, which become what `data.resize` makes of Omniglot's
        (see `as_drawing`); ``ink``: drawings that only become light on dark, as by `data.ink`; None: pictures. Of both
        the centred square is taken.

    Raises:
      UserError: none, one that cannot be read, or one without strokes; names it.
    """
    if isinstance(files, File):
        files = [files]
    if not len(files):
        raise UserError("no images were given")
    size, _, channels = image_shape
    load = lambda f: opaque(f, channels) if isinstance(f, Image.Image) else open_image(os.fspath(f), channels)
    fits = []
    for file in files:
        image = load(file)
        try:
            if drawings in RESIZES:
                fits.append(_drawing(np.asarray(image), drawings, size))
            else:
                fits.append(fitted(image, size, channels, drawings == "ink"))
        except UserError as error:
            name = file if isinstance(file, str | os.PathLike) else "a drawing"
            raise UserError(f"{name}: {error}") from None
    return np.stack(fits).astype(np.float32) / 255


def _drawing(levels: np.ndarray, resize: str, size: int) -> np.ndarray:
    """``[size, size, 1]`` uint8 of ``[H, W]``; of the model's own size it is only made light on dark."""
    if levels.shape == (size, size):
        return ink_of(levels)[..., None]
    return resize_images([255 * as_drawing(levels).astype(np.uint8)[..., None]], resize, size, 1)[0]


def as_drawing(levels: np.ndarray) -> np.ndarray:
    """A drawing of any size, polarity, place and pen, as Omniglot's are: ``[H, W]`` uint8 -> ``[105, 105]`` bool, ink.

    Ink of a size or place that Omniglot has (`SIDES`, `OFF_CENTRE`) keeps it.

    Raises:
      UserError: no strokes are seen.
    """
    ink = ink_of(levels)
    box = np.array(Image.fromarray(ink > 127).getbbox())  # left, top, right, bottom
    extent, side, fine = box[2:] - box[:2], min(levels.shape), SHEET * _FINER
    scale = fine * np.clip(extent.max() / side, *SIDES) / extent.max()
    shape = np.maximum(1, np.rint(scale * extent)).astype(int)
    small = Image.fromarray(ink).crop(box.tolist()).resize(shape.tolist(), Image.Resampling.BOX)
    # The ink's middle from the middle of the sheet, no further than Omniglot's.
    middle = box[:2] + extent / 2 - np.array(levels.shape[::-1]) / 2
    middle = fine * (0.5 + np.clip(middle / side, -OFF_CENTRE, OFF_CENTRE))
    start = np.clip(np.rint(middle - shape / 2), 0, fine - shape).astype(int)
    sheet = Image.new("L", (fine, fine))
    half = small.getextrema()[1] / 2  # of the darkest: a pen thinner than a pixel leaves no full ink
    sheet.paste(small.point(lambda level: 255 * (level >= half)), tuple(start.tolist()))
    return np.asarray(_of_stroke(sheet).resize((SHEET, SHEET), Image.Resampling.BOX)) > 127


def _of_stroke(sheet: Image.Image) -> Image.Image:
    """A binary sheet with its strokes made thinner or thicker, to the width of Omniglot's."""
    over = _width(sheet) - STROKE * _FINER
    thinner_or_thicker = ImageFilter.MinFilter(3) if over > 0 else ImageFilter.MaxFilter(3)
    while abs(_width(sheet) - STROKE * _FINER) > 1 and (_width(sheet) > STROKE * _FINER) == (over > 0):
        sheet = sheet.filter(thinner_or_thicker)  # takes or adds a pixel on both sides
    return sheet


def _width(sheet: Image.Image) -> float:
    ink = np.pad(np.asarray(sheet) > 127, 1)
    return 2 * ink.sum() / max(1, sum(np.count_nonzero(np.diff(ink, axis=axis)) for axis in (0, 1)))
