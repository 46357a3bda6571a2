"""The local cache of resized images: one uncompressed .npz file per source and size.

A machine with only that file needs neither tfds nor the raw data.
"""

import dataclasses
import glob
import json
import os
import warnings
import zipfile
from typing import Any

import numpy as np

from hfsgm_jax.data.errors import DataError
from hfsgm_jax.data.raw import Raw
from hfsgm_jax.data.resize import resize_images
from hfsgm_jax.data.sources import SOURCES

_VERSION = "v1"  # raise it when the same raw data would give other arrays
_ARRAYS = ("images", "start", "size", "label", "group", "part")


@dataclasses.dataclass
class Table:
    """All classes of a source, images grouped by class.

    Attributes:
      images: ``[n, H, W, C]`` uint8 or float32.
      start, size, label, group, part: int32 ``[classes]``: first image, number of images, class id, group id,
        official part (0 train, 1 val, 2 test).
      info: facts about the raw data.
    """

    images: np.ndarray
    start: np.ndarray
    size: np.ndarray
    label: np.ndarray
    group: np.ndarray
    part: np.ndarray
    info: dict[str, Any]


def cache_dir(config: Any) -> str:
    """``data.cache_dir``, else HFSGM_CACHE, else ~/.cache/hfsgm_jax."""
    default = os.path.join("~", ".cache", "hfsgm_jax")
    return os.path.abspath(os.path.expanduser(config.cache_dir or os.environ.get("HFSGM_CACHE") or default))


def load_table(config: Any, source: str) -> Table:
    """The table of ``source`` from the cache, or read, resized and cached."""
    entry = SOURCES[source]
    prefix = "-".join(
        [source, config.resize, f"{config.image_size}x{config.channels}", entry.identity(config), _VERSION]
    )
    fingerprint = entry.fingerprint(config)
    if fingerprint is None:
        path = _newest(os.path.join(cache_dir(config), glob.escape(prefix) + "-*.npz"))
    else:
        path = os.path.join(cache_dir(config), f"{prefix}-{fingerprint}.npz")
    table = _read(path) if path else None
    if table is not None:
        return table
    table = group_by_class(entry.read(config), config)
    # Preparing the raw data may just have given them a fingerprint.
    fingerprint = entry.fingerprint(config)
    if fingerprint is not None:
        _write(os.path.join(cache_dir(config), f"{prefix}-{fingerprint}.npz"), table)
    return table


def group_by_class(raw: Raw, config: Any) -> Table:
    """Resizes ``raw`` and sorts it by class (then official part); within a class the source's order stays."""
    labels = np.asarray(raw.labels)
    if len(labels) == 0:
        raise DataError("There are no images.")
    images = resize_images(raw.images, config.resize, config.image_size, config.channels)
    zeros = np.zeros(len(labels), np.int32)
    parts = zeros if raw.parts is None else np.asarray(raw.parts)
    groups = zeros if raw.groups is None else np.asarray(raw.groups)
    order = np.lexsort((parts, labels))  # stable
    labels, parts, groups = labels[order], parts[order], groups[order]
    new = np.flatnonzero(np.diff(labels, prepend=labels[0] - 1) | np.diff(parts, prepend=parts[0]))
    return Table(
        images=np.ascontiguousarray(images[order]),
        start=new.astype(np.int32),
        size=np.diff(new, append=len(labels)).astype(np.int32),
        label=labels[new].astype(np.int32),
        group=groups[new].astype(np.int32),
        part=parts[new].astype(np.int32),
        info=raw.info,
    )


def _newest(pattern: str) -> str | None:
    return max(glob.glob(pattern), key=os.path.getmtime, default=None)


def _read(path: str) -> Table | None:
    """None where there is no such file, or none that can be read."""
    if not os.path.exists(path):
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            return Table(**{name: file[name] for name in _ARRAYS}, info=json.loads(str(file["info"])))
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        warnings.warn(f"The cache file {path} cannot be read ({error}); it is made anew.", stacklevel=4)
        return None


def _write(path: str, table: Table) -> None:
    """Writes atomically; a cache that cannot be written costs time only."""
    arrays = {name: getattr(table, name) for name in _ARRAYS}
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(temporary, "wb") as file:
            np.savez(file, **arrays, info=np.array(json.dumps(table.info)))
        os.replace(temporary, path)
    except OSError as error:
        warnings.warn(f"The cache file {path} cannot be written ({error}); the next start reads anew.", stacklevel=4)
        if os.path.exists(temporary):
            os.unlink(temporary)
