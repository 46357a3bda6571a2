"""Libraries that only some data need: a cache file of resized images (`cache`) is read without any of them."""

import importlib
from types import ModuleType

from hfsgm_jax.errors import DataError


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
        raise DataError(
            f"raw data need {' and '.join(modules)} ({error}): pip install {' '.join(modules)}, or copy a cache file, "
            "which `python -m scripts.cache_data` writes where they are, into the folder that HFSGM_CACHE names."
        ) from error
