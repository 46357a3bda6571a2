"""The local cache of resized images: one uncompressed .npz file per source and size. Of streamed ones, their order.

A machine with only that file needs neither tfds nor the raw data. The file has the arrays of a `Dataset` and ``info``
(JSON); the checksums of its format tell damage.
"""

import dataclasses
import glob
import json
import os
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from hfsgm_jax.data.dataset import Dataset, StreamedImages, image_shape
from hfsgm_jax.data.sources import UNREADABLE, Source

_VERSION = "v3"  # raise it when the same raw data would give other arrays
_COLUMNS = ("start", "size", "label", "group", "part")


def cache_dir() -> str:
    """HFSGM_CACHE, else ~/.cache/hfsgm_jax."""
    return os.path.abspath(os.path.expanduser(os.environ.get("HFSGM_CACHE") or "~/.cache/hfsgm_jax"))


def load(config: Any, name: str, source: Source, *part: int) -> Dataset:
    """All classes of a source from the cache, or read, resized and cached; images in memory or, with stream, not.

    Args:
      config: the config's section `data`, as it is for this source.
      part: the official part to read, of a source that is read by parts.
    """
    path = find(config, name, source, *part)
    if path and os.path.exists(path) and (dataset := _read(path, config, source)):
        return dataset
    dataset = source.read(config, *part)
    if isinstance(dataset.images, StreamedImages) and not config.stream:
        dataset = dataclasses.replace(dataset, images=dataset.images.to_memory())
    path = find(config, name, source, *part)  # preparing the raw data may just have given them a key
    try:
        if path:
            write(path, dataset)
    except OSError as error:
        warnings.warn(f"The cache file {path} cannot be written ({error}); the next start reads anew.", stacklevel=4)
    return dataset


def find(config: Any, name: str, source: Source, *part: int) -> str | None:
    """The cache file: of these raw data or, where they are not at hand, the newest of their kind, if there is one."""
    if source.key is None:
        return None
    form = ["index"] if config.stream else [config.resize, f"{config.image_size}x{config.channels}"]
    file = "-".join([name, *form, *(f"part{number}" for number in part), _VERSION, source.key(config)]) + ".npz"
    if "*" not in file:
        return os.path.join(cache_dir(), file)
    return max(glob.glob(os.path.join(glob.escape(cache_dir()), file)), key=os.path.getmtime, default=None)


def write(path: str, dataset: Dataset, save: Callable = np.savez) -> None:
    """Writes the cache file, all of it or nothing."""
    images = dataset.images
    arrays = {"position": images.position} if isinstance(images, StreamedImages) else {"images": images}
    arrays |= {name: getattr(dataset, name) for name in _COLUMNS}
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as folder:
        file = os.path.join(folder, "data.npz")
        save(file, **arrays, info=np.array(json.dumps(dataset.info)))
        os.replace(file, path)


def _read(path: str, config: Any, source: Source) -> Dataset | None:
    """None where the file cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("position" if config.stream else "images", *_COLUMNS)}
            info = json.loads(str(file["info"]))
    except UNREADABLE as error:
        warnings.warn(f"The cache file {path} cannot be read ({error}); it is made anew.", stacklevel=5)
        return None
    if config.stream:
        arrays["images"] = StreamedImages(source.open(config), arrays.pop("position"), image_shape(config))
    return Dataset(**arrays, info=info)
