"""Sources read through TensorFlow Datasets, without TensorFlow. tfds is imported only when raw data are read."""

import copy
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from hfsgm_jax.data.errors import DataError
from hfsgm_jax.data.optional import import_tfds
from hfsgm_jax.data.raw import Raw

OMNIGLOT_VERSION = "3.0.0"
# Superclasses of CIFAR100 whose classes are validation and test in FS-CIFAR100 (Oreshkin et al., 2018): 20 classes
# each, 60 train. large carnivores, large omnivores and herbivores, non-insect invertebrates, small mammals;
# aquatic mammals, insects, medium mammals, people.
FC100_VAL, FC100_TEST = (8, 11, 13, 16), (0, 7, 12, 14)
CELEBA_IMAGES = (20, 30)  # an identity has at least and gives at most so many images
_CHUNK = 2000  # images decoded at once

Fields = dict[str, np.ndarray]  # values of a record's keys, over the records


@dataclasses.dataclass(frozen=True)
class TfdsSource:
    """How a data set of tfds becomes classes of images.

    Attributes:
      name, version: of tfds.
      splits: the tfds splits it consists of; those that are prepared are read.
      keys: what of a record is needed to arrange the images.
      arrange: ``(fields, is_test) -> (labels, groups, parts, keep)``; groups, and keep (which records), may be None.
        ``is_test`` is bool, the records of the tfds split `test`.
      pixels: the decoded image ``[H, W, C]`` -> uint8 with ink high.
    """

    name: str
    version: str
    splits: tuple[str, ...]
    keys: tuple[str, ...]
    arrange: Callable[[Fields, np.ndarray], tuple]
    pixels: Callable[[np.ndarray], np.ndarray] = lambda image: image

    def prepared_splits(self, config: Any) -> list[str]:
        """Those of `splits` that are in the tfds directory."""
        folder = os.path.join(tfds_dir(config), self.name, self.version)
        files = os.listdir(folder) if os.path.isdir(folder) else []
        return [s for s in self.splits if any(file.startswith(f"{self.name}-{s}.array_record") for file in files)]

    def fingerprint(self, config: Any) -> str | None:
        """The splits that are prepared; None where there are none."""
        splits = self.prepared_splits(config)
        return "-".join([self.version, *splits]) if splits else None

    def open(self, config: Any) -> "TfdsImages":
        """Random access to the images of all its records; prepares them if need be.

        Raises:
          DataError: they are not there and cannot be had; says what to do.
        """
        from hfsgm_jax.data import prepare

        import_tfds()  # or says that it is missing, before the data are looked for
        data_dir = tfds_dir(config)
        prepare.ensure_prepared(self.name, data_dir, self.version)
        splits = self.prepared_splits(config)
        if not splits:
            raise DataError(
                f"{self.name} {self.version} in {data_dir!r} has none of the splits {', '.join(self.splits)}."
            )
        return TfdsImages(self, splits, data_dir)

    def read(self, config: Any) -> Raw:
        """All of it: labels at once, images when they are asked for."""
        images = self.open(config)
        fields, is_test = images.fields()
        labels, groups, parts, keep = self.arrange(fields, is_test)
        if keep is not None:
            images = images.subset(keep)
            labels, groups, parts = labels[keep], None if groups is None else groups[keep], parts[keep]
        return Raw(images, labels, groups, parts, info={"tfds_splits": images.splits})


class TfdsImages(Sequence):
    """Raw images by position, decoded when they are asked for; the splits follow one another.

    Safe to use from several threads.

    Attributes:
      positions: ``[n]`` int64, the places in all records of the splits.
    """

    def __init__(self, spec: TfdsSource, splits: list[str], data_dir: str):
        self.splits = splits
        self._spec, self._data_dir = spec, data_dir
        self._sources = [_data_source(spec.name, split, data_dir) for split in splits]
        self._first = np.cumsum([0, *map(len, self._sources)])
        self.positions = np.arange(self._first[-1])

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.take([index])[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), _CHUNK):
            yield from self.take(np.arange(start, min(start + _CHUNK, len(self))))

    def take(self, index: Sequence[int]) -> list[np.ndarray]:
        """The images ``[H, W, C]`` uint8 at ``index``, in this order."""
        records = _take(self._sources, self._first, self.positions[np.asarray(index, np.int64)])
        return [self._spec.pixels(record["image"]) for record in records]

    def subset(self, index: np.ndarray) -> "TfdsImages":
        """Those at ``index`` (integers, or bool over all), in this order; reads nothing."""
        some = copy.copy(self)
        some.positions = self.positions[index]
        return some

    def fields(self) -> tuple[Fields, np.ndarray]:
        """`TfdsSource.keys` of all records, without decoding an image, and which are of the split `test`."""
        tfds = import_tfds()
        skip = {"image": tfds.decode.SkipDecoding()}
        columns = {key: [] for key in self._spec.keys}
        for split in self.splits:
            for records in _chunks(_data_source(self._spec.name, split, self._data_dir, decoders=skip)):
                for key, column in columns.items():
                    column.extend(_value(record, key) for record in records)
        is_test = np.repeat([split == "test" for split in self.splits], np.diff(self._first))
        return {key: np.array(column) for key, column in columns.items()}, is_test


def tfds_dir(config: Any) -> str:
    """The tfds data directory: ``data.data_dir``, else TFDS_DATA_DIR, else tfds's default."""
    default = os.path.join("~", "tensorflow_datasets")
    # tfds reads TFDS_DATA_DIR when it is imported, once; read it here, so that it also works later.
    path = config.data_dir or os.environ.get("TFDS_DATA_DIR") or default
    return os.path.abspath(os.path.expanduser(path))


def _omniglot(fields: Fields, is_test: np.ndarray) -> tuple:
    """Label 0..1622, group = alphabet; parts: background, evaluation."""
    return fields["label"], fields["alphabet"], np.where(is_test, 2, 0), None


def _mnist(fields: Fields, is_test: np.ndarray) -> tuple:
    return fields["label"], None, np.where(is_test, 2, 0), None


def _cifar100(fields: Fields, is_test: np.ndarray) -> tuple:
    """Group = superclass, which says whose part a class is; the official training and test images together."""
    group = fields["coarse_label"]
    return fields["label"], group, np.select([np.isin(group, FC100_VAL), np.isin(group, FC100_TEST)], [1, 2], 0), None


def _celeba(fields: Fields, is_test: np.ndarray) -> tuple:
    """Label = identity. Identities in ascending order: 70 % train, 10 % validation, 20 % test."""
    identity = fields["identity/Identity_No"]
    low, high = CELEBA_IMAGES
    ids, of, count = np.unique(identity, return_inverse=True, return_counts=True)
    order = np.argsort(of, kind="stable")
    place = np.empty_like(order)  # of an image among those of its identity
    place[order] = np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count)
    keep = (count[of] >= low) & (place < high)
    kept = ids[count >= low]
    part = np.searchsorted([len(kept) * 7 // 10, len(kept) * 8 // 10], np.arange(len(kept)), side="right")
    parts = np.zeros_like(identity)
    parts[keep] = part[np.searchsorted(kept, identity[keep])]
    return identity, None, parts, keep


def _ink(image: np.ndarray) -> np.ndarray:
    """Ink 255 on 0. 1-bit PNGs: paper is 1 by Pillow and 255 by OpenCV, ink is 0 by both."""
    return (image[..., :1] == 0).astype(np.uint8) * np.uint8(255)


OMNIGLOT = TfdsSource("omniglot", OMNIGLOT_VERSION, ("train", "test"), ("label", "alphabet"), _omniglot, _ink)
MNIST = TfdsSource("mnist", "3.0.1", ("train", "test"), ("label",), _mnist)
CIFAR100 = TfdsSource("cifar100", "3.0.2", ("train", "test"), ("label", "coarse_label"), _cifar100)
CELEBA = TfdsSource("celeb_a", "2.1.0", ("train", "validation", "test"), ("identity/Identity_No",), _celeba)


def _data_source(name: str, split: str, data_dir: str, **options):
    return import_tfds().data_source(name, split=split, data_dir=data_dir, **options)


def _chunks(source: Any) -> Iterator[list]:
    """Lists of records, in tfds's fixed order."""
    for start in range(0, len(source), _CHUNK):
        yield source.__getitems__(list(range(start, min(start + _CHUNK, len(source)))))


def _take(sources: list, first: np.ndarray, positions: np.ndarray) -> list:
    """Records at ``positions`` of ``sources`` that follow one another, as a list in that order."""
    of = np.searchsorted(first, positions, side="right") - 1
    records = [None] * len(positions)
    for number in np.unique(of):
        places = np.flatnonzero(of == number)
        found = sources[number].__getitems__((positions[places] - first[number]).tolist())
        for place, record in zip(places, found, strict=True):
            records[place] = record
    return records


def _value(record: dict, path: str) -> Any:
    for key in path.split("/"):
        record = record[key]
    return record
