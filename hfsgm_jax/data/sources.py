"""Sources of images: functions that give a `Dataset`. To add one: ``SOURCES["mine"] = function``."""

import dataclasses
import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from hfsgm_jax.data import folder, multi_digit, strokes, tfds_sources
from hfsgm_jax.data.dataset import Dataset
from hfsgm_jax.data.resize import resize_images
from hfsgm_jax.data.splits import RANDOM
from hfsgm_jax.errors import DataError

UNREADABLE = (OSError, EOFError, KeyError, ValueError, TypeError, zipfile.BadZipFile, zlib.error)  # of an .npz file
ARRAYS = "arrays"  # the name of a user's own data set, which is no source


@dataclasses.dataclass(frozen=True)
class Source:
    """A function that gives all classes of a data set, and what is known of it beforehand.

    Attributes:
      read: config.data -> Dataset; with ``by_part``: (config.data, official part 0..2) -> Dataset.
      schemes: values of data.split that the source supports; the first is used when another source's config evaluates
        this one. None: any for a data set with official parts, else `random`.
      key: config.data -> text that names the raw data and their content in the name of the cache file, ``*`` in place
        of what is known of raw data at hand alone. No function: nothing is cached.
      open: config.data -> (positions -> images) of `StreamedImages`, for data.stream; None: not to be streamed.
      by_part: an official part is read and cached without the others.
    """

    read: Callable[..., Dataset]
    schemes: tuple[str, ...] | None = None
    key: Callable[[Any], str] | None = None
    open: Callable[[Any], Callable[[np.ndarray], np.ndarray]] | None = None
    by_part: bool = False


def find_source(name: str) -> Source:
    """The entry of `SOURCES`, where a plain function will do."""
    entry = SOURCES[name]
    return entry if isinstance(entry, Source) else Source(entry)


def read_npz(config: Any) -> Dataset:
    """``images``, ``labels`` and, if there, ``groups`` of the file ``data.path``, as `Dataset.from_arrays` takes them.

    Raises:
      DataError: there is no such file, or its arrays do not fit.
    """
    path = os.path.abspath(os.path.expanduser(config.path))
    try:
        with np.load(path, allow_pickle=False) as file:
            groups = file["groups"] if "groups" in file.files else None
            dataset = Dataset.from_arrays(file["images"], file["labels"], groups)
    except UNREADABLE as error:
        raise DataError(f"{path} cannot be read as .npz: `images`, `labels` (no objects) needed; {error}") from error
    dataset.images = resize_images(dataset.images, config.resize, config.image_size, config.channels)
    return dataset


def _path_key(config: Any) -> str:
    """Of the path, and of names, sizes and times of the file or of the images in the folder."""
    path = os.path.abspath(os.path.expanduser(config.path))
    files = [file for _, file in folder.list_files(config.path)] if os.path.isdir(path) else [path]
    stamps = [(file, os.path.exists(file) and (os.path.getsize(file), os.path.getmtime(file))) for file in files]
    return hashlib.sha256(repr((path, config.corrupt, config.ink, stamps)).encode()).hexdigest()[:16]


def _multi_digit(digits: int) -> Source:
    read = lambda config, part: multi_digit.read(config, digits, part)
    key = lambda config: f"seed{config.seed}-{multi_digit.VERSION}-{tfds_sources.MNIST.key(config)}"
    return Source(read, ("official",), key, by_part=True)


def _tfds(source: tfds_sources.TfdsSource, *schemes: str, **more: Any) -> Source:
    return Source(source.read, schemes, source.key, **more)


def _mnist(config: Any) -> tfds_sources.TfdsSource:
    """The official test images for `back_eval`, as a test of transfer; all images where classes are split."""
    return tfds_sources.ALL_DIGITS if config.split == "random" else tfds_sources.MNIST


def _mnist_key(config: Any) -> str:
    return f"{'all' if config.split == 'random' else 'test'}-{tfds_sources.MNIST.key(config)}"


SOURCES: dict[str, Source | Callable[[Any], Dataset]] = {
    "omniglot": _tfds(tfds_sources.OMNIGLOT, "back_eval", "ns", "vhe_1200", "alphabet", "official", "random"),
    "mnist": Source(lambda config: _mnist(config).read(config), ("back_eval", "random"), _mnist_key),
    "double_mnist": _multi_digit(2),
    "triple_mnist": _multi_digit(3),
    "cifar100": _tfds(tfds_sources.CIFAR100, "official", "random"),
    "celeba": _tfds(tfds_sources.CELEBA, "official", "random", open=tfds_sources.CELEBA.open),
    "strokes": Source(strokes.read, ("back_eval", "official", "random"), lambda x: f"seed{x.seed}-{strokes.VERSION}"),
    "npz": Source(read_npz, schemes=RANDOM, key=_path_key),
    "folder": Source(folder.read, schemes=RANDOM, key=_path_key, open=folder.opener),
}
