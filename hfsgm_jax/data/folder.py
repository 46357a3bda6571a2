"""Source: a folder with one folder of images per class."""

import os
import warnings

import numpy as np
from PIL import Image, ImageOps

from hfsgm_jax.data.errors import DataError, check_choice
from hfsgm_jax.data.raw import Raw
from hfsgm_jax.data.resize import square

_SHOWN = 10  # corrupt files named in a message


def read(path: str, image_size: int, channels: int, corrupt: str = "refuse") -> Raw:
    """Reads every image file below each class folder, cropped to its centred square and resized.

    Args:
      path: folder; its subfolders are the classes, in alphabetical order. Files that are not images by
        their suffix, and hidden ones, are passed over.
      image_size, channels: as in the config. Transparent pixels become white.
      corrupt: "refuse" or "skip" images that cannot be read.

    Raises:
      DataError: no classes or images, or a corrupt image and ``corrupt="refuse"``.
    """
    check_choice("data.corrupt", corrupt, ("refuse", "skip"))
    files = list_files(path)
    if not files:
        raise DataError(f"No classes in {path!r}: it must hold one folder of images per class.")
    images, labels, bad = [], [], []
    names = sorted({name for name, _ in files})
    index = {name: i for i, name in enumerate(names)}
    for name, file in files:
        try:
            images.append(_read_image(file, image_size, channels))
            labels.append(index[name])
        except Exception as error:  # Pillow's decoders raise many kinds of errors on broken files
            bad.append(f"{os.path.relpath(file, path)} ({type(error).__name__})")
    info = {"class_names": names, "corrupt_images": len(bad)}
    if bad:
        _report_corrupt(bad, len(files), path, corrupt)
    if not images:
        raise DataError(f"None of the {len(files)} image files in {path!r} can be read.")
    return Raw(np.stack(images), np.array(labels), info=info)


def list_files(path: str) -> list[tuple[str, str]]:
    """(class name, file) of every image file of every class folder, sorted."""
    suffixes = set(Image.registered_extensions())
    files = []
    for name in sorted(os.listdir(path)):
        if name.startswith(".") or not os.path.isdir(os.path.join(path, name)):
            continue
        for root, folders, members in os.walk(os.path.join(path, name)):
            folders.sort()
            for member in sorted(members):
                if not member.startswith(".") and os.path.splitext(member)[1].lower() in suffixes:
                    files.append((name, os.path.join(root, member)))
    return files


def stamp(file: str) -> tuple[str, int, int]:
    """Name, size and modification time, by which a changed file is noticed."""
    stat = os.stat(file)
    return os.path.basename(file), stat.st_size, stat.st_mtime_ns


def _read_image(file: str, image_size: int, channels: int) -> np.ndarray:
    """``[image_size, image_size, channels]`` uint8."""
    with Image.open(file) as image:
        if image.format == "JPEG":
            image.draft("RGB", (2 * image_size, 2 * image_size))  # decode big photographs at a fraction of their size
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16") or image.mode == "I":
            image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            paper = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(paper, image)
        image = image.convert("L" if channels == 1 else "RGB")
        return np.asarray(square(image, image_size)).reshape(image_size, image_size, channels)


def _report_corrupt(bad: list[str], total: int, path: str, corrupt: str) -> None:
    shown = ", ".join(bad[:_SHOWN]) + (f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else "")
    message = f"{len(bad)} of {total} images in {path!r} cannot be read: {shown}."
    if corrupt == "refuse":
        raise DataError(message + " Repair or remove them, or set data.corrupt=skip to use the others.")
    warnings.warn(message + " They are left out (data.corrupt=skip).", stacklevel=4)
