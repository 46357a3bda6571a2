"""The local cache of resized images: one uncompressed .npz file per source and size. Of streamed ones, their order.

A machine with only that file needs neither tfds nor the raw data; `export_table` writes a small one to take along.
The file has the arrays of `Table`, ``info`` (JSON) and ``sha256``, of these arrays, which is checked when it is read.
"""

import dataclasses
import glob
import hashlib
import json
import os
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from hfsgm_jax.data.errors import DataError
from hfsgm_jax.data.optional import MissingLibrary
from hfsgm_jax.data.raw import Raw
from hfsgm_jax.data.resize import resize_images
from hfsgm_jax.data.sources import SOURCES
from hfsgm_jax.data.streamed import StreamedImages

_VERSION = "v1"  # raise it when the same raw data would give other arrays
_COLUMNS = ("start", "size", "label", "group", "part")
_ARRAYS = ("images", *_COLUMNS)


@dataclasses.dataclass
class Table:
    """All classes of a source, images grouped by class.

    Attributes:
      images: ``[n, H, W, C]`` uint8 or float32, or `StreamedImages`.
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


def load_table(config: Any, source: str, part: int | None = None) -> Table:
    """The table of ``source`` from the cache, or read, resized and cached.

    Args:
      part: the official part to read, of a source that is read by parts.
    """
    entry = SOURCES[source]
    read = entry.read if part is None else lambda config: entry.read(config, part)
    names = _names(config, source, part)
    arrays, info = _cached(config, source, names, lambda: _arrays(group_by_class(read(config), config)))
    return Table(**arrays, info=info)


def export_table(config: Any, source: str, folder: str | os.PathLike, part: int | None = None) -> str:
    """Writes the table of ``source`` into a folder that serves as ``data.cache_dir`` elsewhere; compressed.

    Returns:
      The file's path.

    Raises:
      DataError: the raw data cannot be had, or the file cannot be written.
    """
    table = load_table(config, source, part)
    fingerprint = SOURCES[source].fingerprint(config)
    if fingerprint is None:
        raise DataError(f"The raw data of source {source!r} are not here: copy its file in {cache_dir(config)!r}.")
    path = os.path.join(folder, "-".join([*_names(config, source, part), _VERSION, fingerprint]) + ".npz")
    _write(path, *_arrays(table), save=np.savez_compressed)
    if _read(path, _ARRAYS) is None:
        raise DataError(f"{path} could not be written.")
    return path


def _names(config: Any, source: str, part: int | None) -> list[str]:
    """The part of a cache file's name that is known without the raw data."""
    names = [source, config.resize, f"{config.image_size}x{config.channels}", SOURCES[source].identity(config)]
    return names if part is None else [*names, f"part{part}"]


def load_streamed_table(config: Any, source: str) -> Table:
    """The table of ``source`` with its images left where they are; what is cached is where they are.

    Raises:
      DataError: the source's images cannot be read one by one.
    """
    entry = SOURCES[source]
    if entry.open is None:
        raise DataError(
            f"data.stream=True reads images one by one, which source {source!r} does not offer: use data.stream=False."
        )

    def read() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        raw = entry.read(config)
        order, columns = _group(raw)
        return {"position": raw.images.positions[order], **columns}, raw.info

    arrays, info = _cached(config, source, [source, "index", entry.identity(config)], read, ("position", *_COLUMNS))
    position = arrays.pop("position")
    look = config.resize, config.image_size, config.channels
    return Table(images=StreamedImages(entry.open(config).subset(position), *look), **arrays, info=info)


def group_by_class(raw: Raw, config: Any) -> Table:
    """Resizes ``raw`` and sorts it by class (then official part); within a class the source's order stays."""
    order, columns = _group(raw)
    images = resize_images(raw.images, config.resize, config.image_size, config.channels)
    if (np.diff(order) != 1).any():
        images = images[order]
    return Table(images=np.ascontiguousarray(images), **columns, info=raw.info)


def _group(raw: Raw) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The order by class and part, and the columns of the `Table`."""
    labels = np.asarray(raw.labels)
    if len(labels) == 0:
        raise DataError("There are no images.")
    zeros = np.zeros(len(labels), np.int32)
    parts = zeros if raw.parts is None else np.asarray(raw.parts)
    groups = zeros if raw.groups is None else np.asarray(raw.groups)
    order = np.lexsort((parts, labels))  # stable
    labels, parts, groups = labels[order], parts[order], groups[order]
    new = np.flatnonzero(np.diff(labels, prepend=labels[0] - 1) | np.diff(parts, prepend=parts[0]))
    size = np.diff(new, append=len(labels))
    columns = (new, size, labels[new], groups[new], parts[new])
    return order, {name: column.astype(np.int32) for name, column in zip(_COLUMNS, columns, strict=True)}


def _arrays(table: Table) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    return {name: getattr(table, name) for name in _ARRAYS}, table.info


def _cached(config: Any, source: str, names: list[str], read: Callable, arrays: tuple[str, ...] = _ARRAYS):
    """``(arrays, info)`` from the cache file that ``names`` and the raw data's fingerprint name, or else read."""
    prefix = os.path.join(cache_dir(config), "-".join([*names, _VERSION]))
    fingerprint = SOURCES[source].fingerprint(config)
    path = _newest(glob.escape(prefix) + "-*.npz") if fingerprint is None else f"{prefix}-{fingerprint}.npz"
    found = _read(path, arrays) if path else None
    if found is not None:
        return found
    try:
        found = read()
    except MissingLibrary as error:
        file = path or f"{prefix}-*.npz"
        why = f"The cache file {file} cannot be read." if os.path.exists(file) else f"There is no cache file {file}."
        raise MissingLibrary(f"{error} {why}") from error
    # Preparing the raw data may just have given them a fingerprint.
    fingerprint = SOURCES[source].fingerprint(config)
    if fingerprint is not None:
        _write(f"{prefix}-{fingerprint}.npz", *found)
    return found


def _newest(pattern: str) -> str | None:
    return max(glob.glob(pattern), key=os.path.getmtime, default=None)


def _read(path: str, names: tuple[str, ...]) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """None where there is no such file, or none that can be read."""
    if not os.path.exists(path):
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in names}
            if "sha256" in file.files and str(file["sha256"]) != _sha256(arrays):
                raise ValueError("its arrays are not those of its sha256")
            return arrays, json.loads(str(file["info"]))
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        warnings.warn(f"The cache file {path} cannot be read ({error}); it is made anew.", stacklevel=5)
        return None


def _sha256(arrays: dict[str, np.ndarray]) -> str:
    """Of the arrays' names, types, shapes and bytes, in the order of their names."""
    sha = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        sha.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        sha.update(np.ascontiguousarray(array))
    return sha.hexdigest()


def _write(path: str, arrays: dict[str, np.ndarray], info: dict[str, Any], save: Callable = np.savez) -> None:
    """Writes atomically; a cache that cannot be written costs time only."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(temporary, "wb") as file:
            save(file, **arrays, info=np.array(json.dumps(info)), sha256=np.array(_sha256(arrays)))
        os.replace(temporary, path)
    except OSError as error:
        warnings.warn(f"The cache file {path} cannot be written ({error}); the next start reads anew.", stacklevel=5)
        if os.path.exists(temporary):
            os.unlink(temporary)
