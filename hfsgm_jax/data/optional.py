"""Libraries that only some data need: a cache file of resized images (`cache`) is read without any of them."""

import importlib
from types import ModuleType

from hfsgm_jax.data.errors import DataError


class MissingLibrary(DataError):
    """A library that is not installed; the message says what needs it and how to install it."""


def import_tfds() -> ModuleType:
    """`tensorflow_datasets`, which reads raw Omniglot, MNIST, CIFAR100 and CelebA by `array_record`.

    Raises:
      MissingLibrary: one of them is not installed.
    """
    _import("array_record", "array_record", "raw data of tfds")
    return _import("tensorflow_datasets", "tensorflow-datasets importlib_resources", "raw data of tfds")


def import_grain() -> ModuleType:
    """`grain`, whose threads read streamed images.

    Raises:
      MissingLibrary: it is not installed.
    """
    return _import("grain", "grain", "data.stream=True")


def _import(module: str, packages: str, needed_for: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingLibrary(
            f"{needed_for} needs {module}, which cannot be imported ({error}): pip install {packages}. Without it, "
            "use images in memory (data.stream=False) from a cache file, which `python -m scripts.cache_data` writes "
            "where it is installed, by data.cache_dir."
        ) from error
