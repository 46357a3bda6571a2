"""Sources: functions that return images with their labels. To add one, write it and register it here."""

import dataclasses
import hashlib
import os
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hfsgm_jax.data import folder, multi_digit, one_dim, strokes, tfds_sources
from hfsgm_jax.data.errors import DataError
from hfsgm_jax.data.raw import Raw


@dataclasses.dataclass(frozen=True)
class Source:
    """One source.

    Attributes:
      read: config.data -> Raw; with ``by_part``: (config.data, official part 0..2) -> Raw.
      fingerprint: config.data -> what the raw data are, a short string that names the cache file;
        None where they are not at hand and only a cache can serve.
      identity: config.data -> the part of the cache's name that is known without the raw data.
      schemes: values of data.split that the source supports; the first is used when another
        source's config evaluates this one.
      open: config.data -> random access to the raw images (`TfdsImages`), for data.stream; None: not to be streamed.
      by_part: an official part is read and cached without the others.
      groups: its classes are of groups (alphabets); None: that is told by the file.
    """

    read: Callable[..., Raw]
    fingerprint: Callable[[Any], str | None]
    identity: Callable[[Any], str]
    schemes: Sequence[str]
    open: Callable[[Any], Sequence[np.ndarray]] | None = None
    by_part: bool = False
    groups: bool | None = False


def read_npz(config: Any) -> Raw:
    """Reads ``images``, ``labels`` and, if there, ``groups`` of the file ``data.path``.

    ``images`` is ``[..., H, W]`` or ``[..., H, W, C]`` with the leading axes of ``labels``; bool, integers
    0..255 or floats in [0, 1]. Floats of a single pixel are left as they are (any range).
    """
    path = _require_path(config, "an .npz file with `images` and `labels`", os.path.isfile)
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = {"images", "labels"} - set(file.files)
            if missing:
                raise DataError(f"{path} has no array {sorted(missing)[0]!r}: it needs `images` and `labels`.")
            images, labels = file["images"], file["labels"]
            groups = file["groups"] if "groups" in file.files else None
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as .npz: {error}") from error
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read as .npz (object arrays are refused): {error}") from error
    if labels.size == 0:
        raise DataError(f"{path} holds no images.")
    if images.shape[: labels.ndim] != labels.shape or images.ndim - labels.ndim not in (2, 3):
        raise DataError(f"{path}: images {images.shape} and labels {labels.shape} do not fit: [n,H,W(,C)] and [n].")
    if groups is not None and groups.shape != labels.shape:
        raise DataError(f"{path}: groups {groups.shape} and labels {labels.shape} differ in shape.")
    images = images.reshape((labels.size,) + images.shape[labels.ndim :])
    images = images if images.ndim == 4 else images[..., None]
    names, labels = np.unique(labels.reshape(-1), return_inverse=True)
    groups = None if groups is None else np.unique(groups.reshape(-1), return_inverse=True)[1]
    return Raw(_as_pixels(images, path), labels, groups, info={"class_names": [str(name) for name in names]})


def _as_pixels(images: np.ndarray, path: str) -> np.ndarray:
    """Bool, integer or float pixels as uint8 0..255; single float values stay float32."""
    if images.dtype == np.uint8:
        return images
    if images.dtype == np.bool_:
        return images.astype(np.uint8) * np.uint8(255)
    is_float = np.issubdtype(images.dtype, np.floating)
    if is_float and images.shape[1:3] == (1, 1):
        return images.astype(np.float32)
    if not is_float and not np.issubdtype(images.dtype, np.integer):
        raise DataError(f"{path}: images of dtype {images.dtype}; use uint8, or floats in [0, 1].")
    low, high = images.min(), images.max()
    top = 1 if is_float else 255
    if not (low >= 0 and high <= top):
        raise DataError(f"{path}: {images.dtype} images must lie in [0, {top}], they lie in [{low}, {high}].")
    return np.rint(images * 255.0).astype(np.uint8) if is_float else images.astype(np.uint8)


def read_folder(config: Any) -> Raw:
    """Reads the folder ``data.path``: one folder per class, see `folder.read`."""
    path = _require_path(config, "a folder with one folder of images per class", os.path.isdir)
    return folder.read(path, image_size=config.image_size, channels=config.channels, corrupt=config.corrupt)


def read_strokes(config: Any) -> Raw:
    """Draws the procedural classes of `strokes`, at ``data.image_size``, from ``data.seed``."""
    images, labels, parts = strokes.default_classes(config.image_size, config.seed)
    return Raw(images, labels, parts=parts)


def _require_path(config: Any, what: str, exists: Callable[[str], bool]) -> str:
    if not config.path:
        raise DataError(f"data.source={config.source!r} needs data.path: {what}.")
    path = os.path.abspath(os.path.expanduser(config.path))
    if not exists(path):
        raise DataError(f"data.path={config.path!r} does not exist or is not {what}.")
    return path


def _path_identity(config: Any) -> str:
    if not config.path:
        raise DataError(f"data.source={config.source!r} needs data.path.")
    path = os.path.abspath(os.path.expanduser(config.path))
    return _digest(path, getattr(config, "corrupt", "refuse"))


def _npz_fingerprint(config: Any) -> str | None:
    path = os.path.expanduser(config.path)
    if not os.path.isfile(path):
        return None
    stat = os.stat(path)
    return _digest(stat.st_size, stat.st_mtime_ns)


def _folder_fingerprint(config: Any) -> str | None:
    path = os.path.expanduser(config.path)
    if not os.path.isdir(path):
        return None
    return _digest(*((name, *folder.stamp(file)) for name, file in folder.list_files(path)))


def _digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _multi_digit(digits: int) -> Source:
    def fingerprint(config: Any) -> str | None:
        mnist = tfds_sources.MNIST.fingerprint(config)
        return mnist and f"{multi_digit.VERSION}-{mnist}"

    return Source(
        read=lambda config, part: multi_digit.read(config, digits, part),
        fingerprint=fingerprint,
        identity=lambda config: f"seed{config.seed}",
        schemes=("official",),
        by_part=True,
    )


def _tfds(source: tfds_sources.TfdsSource, *schemes: str, **changed: Any) -> Source:
    entry = dict(read=source.read, fingerprint=source.fingerprint, identity=lambda config: "tfds", open=source.open)
    return Source(**{**entry, **changed}, schemes=schemes)


_OWN = ("random",)
SOURCES: dict[str, Source] = {
    "omniglot": _tfds(
        tfds_sources.OMNIGLOT,
        *("back_eval", "ns", "alphabet", "official", "random"),
        fingerprint=lambda config: tfds_sources.OMNIGLOT_VERSION,
        groups=True,
    ),
    "mnist": _tfds(tfds_sources.MNIST, "back_eval", "official", "random"),
    "double_mnist": _multi_digit(2),
    "triple_mnist": _multi_digit(3),
    "cifar100": _tfds(tfds_sources.CIFAR100, "official", "random"),
    "celeba": _tfds(tfds_sources.CELEBA, "official", "random"),
    "strokes": Source(
        read=read_strokes,
        fingerprint=lambda config: strokes.VERSION,
        identity=lambda config: f"seed{config.seed}",
        schemes=("back_eval", "official", "random"),
    ),
    "one_dim": Source(
        read=one_dim.read,
        fingerprint=lambda config: one_dim.VERSION,
        identity=lambda config: f"{config.family}-seed{config.seed}",
        schemes=("official", "random"),
    ),
    "npz": Source(read=read_npz, fingerprint=_npz_fingerprint, identity=_path_identity, schemes=_OWN, groups=None),
    "folder": Source(read=read_folder, fingerprint=_folder_fingerprint, identity=_path_identity, schemes=_OWN),
}
