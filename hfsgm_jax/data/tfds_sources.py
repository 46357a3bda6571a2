"""Sources read through TensorFlow Datasets, without TensorFlow. tfds is imported only when raw data are read."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from hfsgm_jax.data import tfds_prepare
from hfsgm_jax.data.dataset import Dataset, StreamedImages, group_by_class, image_shape
from hfsgm_jax.data.resize import resize_images
from hfsgm_jax.data.tfds_prepare import import_tfds

# Superclasses of CIFAR100 whose classes are validation and test in FS-CIFAR100 (Oreshkin et al., 2018): 20 classes
# each, 60 train. large carnivores, large omnivores and herbivores, non-insect invertebrates, small mammals;
# aquatic mammals, insects, medium mammals, people.
FC100_VAL, FC100_TEST = (8, 11, 13, 16), (0, 7, 12, 14)
CELEBA_IMAGES = (20, 30)  # an identity has at least and gives at most so many images
_CHUNK = 2000  # records read at once

Fields = dict[str, np.ndarray]  # last name of a path -> its values in all records


@dataclasses.dataclass(frozen=True)
class TfdsSource:
    """A data set of tfds as classes of images.

    Attributes:
      name, version: of tfds.
      splits: the tfds splits it consists of; those that are prepared are read, one after another.
      keys: paths into a record of the values that are needed to arrange the images.
      arrange: ``(fields, is_test) -> (class ids, groups, parts)`` of all records, part -1 of those that are not used;
        ``is_test`` are those of the tfds split `test`.
      pixels: the decoded image ``[H, W, C]`` -> uint8 with ink high.
    """

    name: str
    version: str
    splits: tuple[str, ...]
    keys: tuple[tuple[str, ...], ...]
    arrange: Callable[[Fields, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
    pixels: Callable[[np.ndarray], np.ndarray] = lambda image: image

    def prepared_splits(self, config: Any) -> list[str]:
        """Those of `splits` that are in the tfds directory."""
        folder = os.path.join(tfds_dir(config), self.name, self.version)
        files = os.listdir(folder) if os.path.isdir(folder) else []
        return [s for s in self.splits if any(file.startswith(f"{self.name}-{s}.array_record") for file in files)]

    def key(self, config: Any) -> str:
        """Of a cache file: the version, and the splits that are prepared (``*``: none)."""
        return f"tfds-{self.version}-{'+'.join(self.prepared_splits(config)) or '*'}"

    def open(self, config: Any) -> Callable[[np.ndarray], np.ndarray]:
        """Positions among all records -> their images, resized; prepares the data if need be.

        Raises:
          DataError: they are not there and cannot be had; says what to do.
        """
        records, look = self._records(config), (config.resize, config.image_size, config.channels)
        raw = lambda positions: [self.pixels(record["image"]) for record in records.__getitems__(positions.tolist())]
        return lambda positions: resize_images(raw(positions), *look)

    def read(self, config: Any) -> Dataset:
        """All of it: labels at once, images when they are indexed."""
        read = self.open(config)
        ids, groups, parts = self.arrange(*self._fields(config))
        keep = parts >= 0
        images = StreamedImages(read, np.flatnonzero(keep), image_shape(config))
        info = {"tfds_splits": self.prepared_splits(config)}
        return group_by_class(images, ids[keep], groups[keep], parts[keep], info)

    def _records(self, config: Any, splits: str | None = None, **options: Any) -> Any:
        tfds, data_dir = import_tfds(), tfds_dir(config)
        if not self.prepared_splits(config):
            tfds_prepare.prepare(self.name, data_dir)
        splits = splits or "+".join(self.prepared_splits(config))
        return tfds.data_source(f"{self.name}:{self.version}", split=splits, data_dir=data_dir, **options)

    def _fields(self, config: Any) -> tuple[Fields, np.ndarray]:
        """`keys` of all records, without decoding an image, and which records are of the split `test`."""
        records = self._records(config, decoders={"image": import_tfds().decode.SkipDecoding()})
        values = [[functools.reduce(dict.get, key, record) for key in self.keys] for record in _each(records)]
        is_test = [np.full(len(self._records(config, s)), s == "test") for s in self.prepared_splits(config)]
        return {key[-1]: np.array(column) for key, column in zip(self.keys, zip(*values))}, np.concatenate(is_test)


def tfds_dir(config: Any) -> str:
    """The tfds data directory: ``data.data_dir``, else TFDS_DATA_DIR, else tfds's default."""
    # tfds reads TFDS_DATA_DIR when it is imported, once; read it here, so that it also works later.
    path = config.data_dir or os.environ.get("TFDS_DATA_DIR") or os.path.join("~", "tensorflow_datasets")
    return os.path.abspath(os.path.expanduser(path))


def _omniglot(fields: Fields, is_test: np.ndarray) -> tuple:
    """Label 0..1622, group = alphabet; parts: background, evaluation."""
    return fields["label"], fields["alphabet"], np.where(is_test, 2, 0)


def _mnist(fields: Fields, is_test: np.ndarray) -> tuple:
    """A test of transfer by the official test images, if they are there."""
    return fields["label"], np.zeros(len(is_test)), np.where(is_test | (not is_test.any()), 2, -1)


def _all_digits(fields: Fields, is_test: np.ndarray) -> tuple:
    return fields["label"], np.zeros(len(is_test)), np.full(len(is_test), 2)


def _cifar100(fields: Fields, is_test: np.ndarray) -> tuple:
    """Group = superclass, which says whose part a class is; the official training and test images together."""
    group = fields["coarse_label"]
    part = np.select([np.isin(group, FC100_VAL), np.isin(group, FC100_TEST)], [1, 2], 0)
    return fields["label"], group, part


def _celeba(fields: Fields, is_test: np.ndarray) -> tuple:
    """Label = identity. Identities in ascending order: 70 % train, 10 % validation, 20 % test."""
    identity = fields["Identity_No"]
    low, high = CELEBA_IMAGES
    ids, of, count = np.unique(identity, return_inverse=True, return_counts=True)
    order = np.argsort(of, kind="stable")
    member = np.empty_like(order)  # of an image among those of its identity
    member[order] = np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count)
    keep = (count[of] >= low) & (member < high)
    kept = ids[count >= low]
    rank = np.searchsorted(kept, identity)
    part = np.searchsorted([len(kept) * 7 // 10, len(kept) * 8 // 10], rank, side="right")
    return identity, np.zeros(len(identity)), np.where(keep, part, -1)


def _ink(image: np.ndarray) -> np.ndarray:
    """Ink 255 on 0. 1-bit PNGs: paper is 1 by Pillow and 255 by OpenCV, ink is 0 by both."""
    return (image[..., :1] == 0).astype(np.uint8) * np.uint8(255)


OMNIGLOT = TfdsSource("omniglot", "3.0.0", ("train", "test"), (("label",), ("alphabet",)), _omniglot, _ink)
MNIST = TfdsSource("mnist", "3.0.1", ("train", "test"), (("label",),), _mnist)
ALL_DIGITS = dataclasses.replace(MNIST, arrange=_all_digits)  # of training and test, to compose images of
CIFAR100 = TfdsSource("cifar100", "3.0.2", ("train", "test"), (("label",), ("coarse_label",)), _cifar100)
CELEBA = TfdsSource("celeb_a", "2.1.0", ("train", "validation", "test"), (("identity", "Identity_No"),), _celeba)


def _each(records: Any) -> Iterator[dict]:
    """The records in tfds's fixed order."""
    for start in range(0, len(records), _CHUNK):
        yield from records.__getitems__(list(range(start, min(start + _CHUNK, len(records)))))
