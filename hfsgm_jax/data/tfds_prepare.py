"""Downloads and prepares tfds data sets, without TensorFlow where that is not installed.

The builders of tfds use TensorFlow to open, list and unpack files alone, for which the standard library does. With a
cache file of resized images (`cache`) neither tfds nor array_record is needed.
"""

import contextlib
import importlib
import importlib.util
import os
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from hfsgm_jax.errors import DataError

_COMMAND = 'python -c "from hfsgm_jax.data.tfds_prepare import prepare; prepare{}"'


def prepare(name: str, data_dir: str, files: str | None = None) -> None:
    """Downloads and prepares the data set into ``data_dir`` unless it is there.

    Args:
      files: a folder with the files of the data set's page, which then are not downloaded.

    Raises:
      DataError: it cannot be had; says what to run.
    """
    tfds = import_tfds()
    builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    if builder.is_prepared():
        return
    try:
        if files is None:
            _check_online(next(iter(builder.url_infos)))
        _replace_tensorflow(builder, tfds.core.download.extractor)
        options = tfds.download.DownloadConfig(manual_dir=files)
        builder.download_and_prepare(download_config=options, file_format="array_record")
    except Exception as error:  # requests, promise, tfds and the file system each have their own
        page, reason = builder.info.homepage, f"{type(error).__name__}: {error}"[:500]
        problem = f"{name} {builder.version} is not in {data_dir!r} and cannot be had from {page}: {reason}"
        command = f"run\n  {_COMMAND.format((name, 'DIR'))}\nand name DIR, or a copy of it, by data.data_dir"
        by_hand = "; where that page is downloaded by hand, the third argument of `prepare` names the files' folder"
        raise DataError(f"{problem}\nWhere there is internet access {command}{by_hand}") from error


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
        gfile = SimpleNamespace(GFile=_open, listdir=lambda path: sorted(set(os.listdir(path)) - {"__MACOSX"}))
        for module in (extractor, sys.modules[type(builder).__module__]):
            module.tf = SimpleNamespace(io=SimpleNamespace(gfile=gfile), compat=SimpleNamespace(as_text=os.fspath))
        generate = builder._generate_examples
        builder._generate_examples = lambda *args, **kwargs: map(_for_pillow, generate(*args, **kwargs))


def _for_pillow(example: tuple[Any, dict]) -> tuple[Any, dict]:
    """An example whose image Pillow encodes, as it does not arrays."""
    image = example[1]["image"]
    image = Image.fromarray(image.squeeze()) if isinstance(image, np.ndarray) else image
    return example[0], example[1] | {"image": image}


def _open(path: str, mode: str) -> Any:
    """A file; one that is read stays open, as in TensorFlow: an archive's images are read when all are listed."""
    file = open(path, mode)
    return contextlib.nullcontext(file) if mode == "rb" else file
