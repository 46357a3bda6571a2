"""Loading of one split of a source or of a user's own data, and checks of the config's section `data`."""

import copy
import hashlib
from typing import Any

import numpy as np

from hfsgm_jax.data import cache, styles
from hfsgm_jax.data.dataset import Dataset, StreamedImages
from hfsgm_jax.data.resize import convert_channels
from hfsgm_jax.data.sets import set_size_range
from hfsgm_jax.data.sources import ARRAYS, SOURCES, Source, find_source
from hfsgm_jax.data.splits import RANDOM, SPLITS, split_classes
from hfsgm_jax.errors import DataError, check_choice

_RAW = ("omniglot", "npz")  # sources that may hold Omniglot's own drawings


def source_config(config: Any, name: str) -> tuple[Any, Source]:
    """The section `data` as it is for a source, and the source.

    Of another source than ``config.source``, for transfer, `data.split` applies where that source knows it, else the
    source's own scheme (MNIST: all ten classes are test), `box` instead of `gmn` where that cannot be, and images are
    in memory where they cannot be streamed.

    Raises:
      DataError: the source does not go with the other keys; before anything is read.
    """
    check_choice("data.source", name, SOURCES, DataError)
    source, transfer = find_source(name), name != config.source
    config = copy.deepcopy(config)
    if transfer:
        config.resize = config.resize if name in _RAW else "box"
        config.stream = config.stream and source.open is not None
        if source.schemes and (config.split not in source.schemes or config.split in RANDOM):
            config.split = source.schemes[0]
    if config.resize == "gmn" and not (name in _RAW and config.image_size == 28):
        look = f"{name!r} with data.image_size={config.image_size}"
        raise DataError(f"data.resize='gmn' samples 28x28 of the 105x105 pixels of Omniglot: use 'box' for {look}.")
    if source.schemes and config.split not in source.schemes:
        raise DataError(f"data.split={config.split!r} is none of source {name!r}: use {' or '.join(source.schemes)}.")
    if name in ("npz", "folder") and not config.path:
        raise DataError(f"data.source={name!r} needs data.path: an .npz file, or a folder with one folder per class.")
    if config.stream and source.open is None:
        raise DataError(f"data.stream=True reads images from disk, and those of {name!r} are in memory: use False.")
    return config, source


def load_dataset(config: Any, split: str, source: str | None = None, dataset: Dataset | None = None) -> Dataset:
    """Loads one split.

    Args:
      config: the config's section `data`.
      split: `train`, `heldout` (images of training classes kept out of training), `val` or `test`.
      source: another source than ``config.source``, for transfer; see `source_config` (``info["scheme"]`` and
        ``info["resize"]`` say what was applied).
      dataset: a user's own data, all classes, in place of ``config.source``; split by `data.split`, or at random
        where it has no parts, and not resized.

    Raises:
      DataError: what is the user's to fix.
    """
    check_choice("split", split, SPLITS, DataError)
    classes = "train" if split == "heldout" else split
    name = source or config.source
    name = ARRAYS if dataset is not None and name == config.source else name
    if name == ARRAYS and dataset is None:
        raise DataError(f"data.source={ARRAYS!r} stands for a data set of the user's own: give it as `dataset`.")
    config, entry = (config, Source(lambda _: dataset)) if name == ARRAYS else source_config(config, name)
    part = [("train", "val", "test").index(classes)] if entry.by_part else []
    whole = cache.load(config, name, entry, *part)
    scheme = config.split if entry.schemes or whole.part.any() or config.split in RANDOM else "random"
    names = whole.info.get("class_names")
    ids = split_classes(scheme, whole.label, whole.group, whole.part, config.seed, names)[classes]
    if len(ids) == 0:
        raise DataError(f"source {name!r} has no {classes} classes under data.split={scheme!r}: use data.split=random.")
    found = whole if entry.by_part else whole.select(np.isin(whole.label, ids))
    if split == "heldout" and not config.heldout:
        raise DataError("no images are held out: set data.heldout to their number per training class.")
    if classes == "train" and config.heldout:
        kept, held_out = found.hold_out(config.heldout)
        found = held_out if split == "heldout" else kept
    if config.styles:
        found.images = convert_channels(found.images, 3) if found.image_shape[-1] == 1 else found.images
        found.style = styles.assign(len(found.images), config.styles)
    found.info = _info(config, found, name, split, scheme, entry)
    if split == "train":
        _check_training(found, config)
    return found


def _check_training(dataset: Dataset, config: Any) -> None:
    """Checks that training can draw such sets: classes large enough, groups, and squares where images are turned."""
    low, high = set_size_range(config.set_size)
    smallest, largest = int(dataset.size.min()), int(dataset.size.max())
    if low > smallest or high > largest:
        have = f"training classes have {smallest} to {largest} images"
        raise DataError(f"data.set_size={config.set_size}: {have}; a range may go up to ({smallest}, {largest}).")
    if config.dihedral and dataset.image_shape[0] != dataset.image_shape[1]:
        raise DataError(f"data.dihedral=True turns images, and these are {dataset.image_shape}, no squares: use False.")
    if config.group_size and len(np.unique(dataset.group)) == 1:
        raise DataError(f"data.group_size={config.group_size}: all classes are of one group: use 0.")


def _info(config: Any, dataset: Dataset, name: str, split: str, scheme: str, source: Source) -> dict[str, Any]:
    resize = {"strokes": "drawn", ARRAYS: "none"}.get(name, config.resize)
    info = dataset.info | dict(source=name, split=split, scheme=scheme, resize=resize)
    info |= dict(image_size=dataset.image_shape[0], channels=dataset.image_shape[-1])
    info |= dict(num_classes=dataset.num_classes, num_images=len(dataset.images))
    info["sha256"] = _sha256(dataset, name, config, source)
    return info | ({"styles": config.styles} if config.styles else {})


def _sha256(dataset: Dataset, name: str, config: Any, source: Source) -> str:
    """Of the images' bytes; of streamed ones, of what names them: the raw data's content and their positions there."""
    if not isinstance(dataset.images, StreamedImages):
        return hashlib.sha256(np.ascontiguousarray(dataset.images)).hexdigest()
    names = name, source.key and source.key(config), config.resize, dataset.images.shape
    return hashlib.sha256(repr(names).encode() + dataset.images.position.tobytes()).hexdigest()
