"""Downloads and prepares tfds data sets, without TensorFlow where that is not installed.

The builders of tfds use TensorFlow to open, list and unpack files alone, for which the standard library does. With a
cache file of resized images (`cache`) neither tfds nor array_record is needed.
"""

import functools
import importlib
import importlib.util
import os
import sys
import zipfile
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from hfsgm_jax.errors import DataError

_COMMAND = 'python -c "from hfsgm_jax.data.tfds_prepare import prepare; prepare{}"'
_PAGES = {
    "omniglot": "https://github.com/brendenlake/omniglot",
    "mnist": "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "cifar100": "https://www.cs.toronto.edu/~kriz/cifar.html",
    "celeb_a": "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",  # leads to a Google Drive
}
_CELEBA_FILES = {  # as tfds calls them
    "img_align_celeba": "img_align_celeba.zip",
    "list_eval_partition": "list_eval_partition.txt",
    "list_attr_celeba": "list_attr_celeba.txt",
    "landmarks_celeba": "list_landmarks_align_celeba.txt",
    "identity_celeba": "identity_CelebA.txt",
}


def prepare(name: str, data_dir: str, files: str = "FILES") -> None:
    """Downloads and prepares the data set into ``data_dir`` unless it is there.

    Args:
      files: of celeb_a, the folder of the files of its page, which are not downloaded by themselves.

    Raises:
      DataError: it cannot be had; says what to run.
    """
    tfds, page = import_tfds(), _PAGES[name]
    builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    if builder.is_prepared():
        return
    if name == "celeb_a":
        paths = {key: os.path.join(files, file) for key, file in _CELEBA_FILES.items()}
        if missing := [path for path in paths.values() if not os.path.exists(path)]:
            command = _COMMAND.format((name, data_dir, "FILES"))
            where = f"celeb_a {builder.version} is not in {data_dir!r}, and there is no {', '.join(missing)}"
            raise DataError(f"{where}: download them from {page} into a folder FILES, and run\n  {command}")
        manager = SimpleNamespace(download=lambda urls: paths, iter_archive=_images_in)
        split = builder._split_generators
        builder._split_generators = lambda dl_manager: split(manager)
    try:
        if name != "celeb_a":
            _check_online(page)
        _replace_tensorflow(builder, tfds.core.download.extractor)
        builder.download_and_prepare(file_format="array_record")
    except Exception as error:  # requests, promise, tfds and the file system each have their own
        problem = f"{name} is not in {data_dir!r} and cannot be had from {page}: {type(error).__name__}: {error}"[:500]
        command = f"run\n  {_COMMAND.format((name, 'DIR'))}\nand name DIR, or a copy of it, by data.data_dir"
        raise DataError(f"{problem}\nWhere there is internet access {command}") from error


def import_tfds() -> ModuleType:
    """`tensorflow_datasets`, which reads raw Omniglot, MNIST, CIFAR100 and CelebA by `array_record`."""
    return import_optional("array_record", "tensorflow_datasets")


def import_optional(*modules: str) -> ModuleType:
    """The last of the modules.

    Raises:
      DataError: one of them is not installed.
    """
    try:
        return [importlib.import_module(module) for module in modules][-1]
    except ImportError as error:
        without = "data of tfds can also be a cache file, which `python -m scripts.cache_data` writes, in HFSGM_CACHE"
        raise DataError(f"{error}: pip install {' '.join(modules)}; {without}") from error


def _check_online(url: str) -> None:
    """Fails at once without a connection: the download manager of tfds would retry for minutes."""
    import requests  # of tfds

    requests.head(url, timeout=10)


def _replace_tensorflow(builder: Any, extractor: Any) -> None:
    """Gives the modules of tfds what they use of TensorFlow, unless it is installed."""
    if importlib.util.find_spec("tensorflow") is None:
        gfile = SimpleNamespace(GFile=open, listdir=lambda path: sorted(set(os.listdir(path)) - {"__MACOSX"}))
        for module in (extractor, sys.modules[type(builder).__module__]):
            module.tf = SimpleNamespace(io=SimpleNamespace(gfile=gfile), compat=SimpleNamespace(as_text=os.fspath))
        generate = builder._generate_examples
        builder._generate_examples = lambda *args, **kwargs: map(_for_pillow, generate(*args, **kwargs))


def _for_pillow(example: tuple[Any, dict]) -> tuple[Any, dict]:
    """An example whose image Pillow encodes, as it does not arrays."""
    image = example[1]["image"]
    image = Image.fromarray(image.squeeze()) if isinstance(image, np.ndarray) else image
    return example[0], example[1] | {"image": image}


def _images_in(path: str) -> Iterator[tuple[str, Any]]:
    """(name, file to read) of each image of a zip file, unpacked when it is read."""
    archive = zipfile.ZipFile(path)
    return ((name, SimpleNamespace(read=functools.partial(archive.read, name))) for name in archive.namelist())
