"""Downloads and prepares tfds data sets without TensorFlow.

    python -m hfsgm_jax.data.prepare omniglot [--data_dir=DIR]                       (or mnist, cifar100)
    python -m hfsgm_jax.data.prepare celeb_a --files=DOWNLOADED [--data_dir=DIR]

The stock builders of tfds list and unpack archives with TensorFlow; the subclasses here do so with the
standard library and write the same records in the same order, as array_record.
"""

import argparse
import gzip
import io
import logging
import os
import re
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from hfsgm_jax.data.errors import DataError, check_choice
from hfsgm_jax.data.optional import import_tfds

_URLS = {
    "omniglot": "https://github.com/brendenlake/omniglot/raw/master/python/",
    "mnist": "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "cifar100": "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
}
CELEBA_PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"  # leads to a Google Drive
_CELEBA_IMAGES = "img_align_celeba.zip"
_CELEBA_LISTS = {  # as tfds calls them
    "list_eval_partition": "list_eval_partition.txt",
    "list_attr_celeba": "list_attr_celeba.txt",
    "landmarks_celeba": "list_landmarks_align_celeba.txt",
    "identity_celeba": "identity_CelebA.txt",
}
NAMES = (*_URLS, "celeb_a")
_OMNIGLOT_FILES = {
    "train": "images_background.zip",
    "test": "images_evaluation.zip",
    "small1": "images_background_small1.zip",
    "small2": "images_background_small2.zip",
}
_MNIST_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
_DRAWING = re.compile(r"[^/]+/([^/]+)/character(\d+)/((\d+)_\d+\.png)$")


def ensure_prepared(name: str, data_dir: str, version: str | None = None) -> None:
    """Downloads and prepares the data set into ``data_dir`` unless it is there, in this (or any) version.

    Raises:
      DataError: it is not there and cannot be downloaded; says what to run.
    """
    if _is_prepared(name, data_dir, version):
        return
    if name == "celeb_a":
        raise DataError(
            f"celeb_a {version or ''} (with identities) is not prepared in {data_dir!r}, and CelebA is not downloaded "
            f"by itself. Download {_CELEBA_IMAGES} and {', '.join(_CELEBA_LISTS.values())} from {CELEBA_PAGE} into "
            "one folder FILES, and run\n"
            f"  python -m hfsgm_jax.data.prepare celeb_a --files=FILES --data_dir={data_dir}"
        )
    logging.info("Preparing %s in %s", name, data_dir)
    try:
        _check_online(_URLS[name])
        builder = make_builder(name, data_dir)
        builder.download_and_prepare(file_format="array_record")
    except Exception as error:  # requests, promise, tfds and the file system each have their own
        raise DataError(
            f"{name} is not prepared in {data_dir!r} and cannot be downloaded from {_URLS[name]} "
            f"({type(error).__name__}: {str(error)[:300]}).\n"
            "Where there is internet access run\n"
            f"  python -m hfsgm_jax.data.prepare {name} --data_dir=DIR\n"
            f"and copy DIR/{name} to {os.path.join(data_dir, name)!r} (or point --config.data.data_dir or "
            "TFDS_DATA_DIR to DIR). A copy of the cache file of the resized images does as well."
        ) from error


def prepare_celeba(files: str, data_dir: str) -> None:
    """Prepares CelebA from the files of its page, in the folder ``files``.

    Raises:
      DataError: one of them is not there.
    """
    missing = [name for name in (_CELEBA_IMAGES, *_CELEBA_LISTS.values()) if not os.path.exists(f"{files}/{name}")]
    if missing:
        raise DataError(f"{', '.join(missing)} not in {files!r}: download from {CELEBA_PAGE}.")
    make_builder("celeb_a", data_dir, files).download_and_prepare(file_format="array_record")


def _check_online(url: str) -> None:
    """Fails at once without a connection: the download manager of tfds would retry for minutes."""
    import requests  # of tfds

    requests.head(url, timeout=10)


def _is_prepared(name: str, data_dir: str, version: str | None = None) -> bool:
    folder = os.path.join(data_dir, name)
    versions = os.listdir(folder) if os.path.isdir(folder) else []
    versions = versions if version is None else set(versions) & {version}
    for version in versions:
        files = os.listdir(os.path.join(folder, version)) if os.path.isdir(os.path.join(folder, version)) else []
        if any(".array_record" in file for file in files) and "dataset_info.json" in files:
            return True
    return False


def omniglot_examples(archive: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(key, record) of each drawing in a zip file of Omniglot's layout."""
    with zipfile.ZipFile(archive) as file:
        for member in sorted(file.namelist()):
            match = None if member.startswith("__MACOSX") else _DRAWING.match(member)
            if not match:
                continue
            alphabet, character, drawing, label = match.groups()
            character_id = int(character) - 1
            yield (
                f"{alphabet}_{character_id}_{drawing}",
                dict(
                    image=io.BytesIO(file.read(member)),
                    alphabet=alphabet,
                    alphabet_char_id=character_id,
                    label=int(label) - 1,
                ),
            )


def mnist_examples(images: str, labels: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(index, record) of each digit in a pair of gzipped idx files."""
    pixels, digits = _read_idx(images), _read_idx(labels)
    for i, (image, label) in enumerate(zip(pixels, digits, strict=True)):
        yield i, dict(image=Image.fromarray(image), label=int(label))


def _read_idx(path: str) -> np.ndarray:
    with gzip.open(path, "rb") as file:
        data = file.read()
    ndim = data[3]
    shape = struct.unpack(f">{ndim}I", data[4 : 4 + 4 * ndim])
    return np.frombuffer(data, np.uint8, offset=4 + 4 * ndim).reshape(shape)


def cifar100_examples(archive: str, part: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(index, record) of each image of ``part`` (train, test) in the binary version's archive."""
    data = _cifar_member(archive, f"{part}.bin")
    rows = np.frombuffer(data, np.uint8).reshape(-1, 2 + 3 * 32 * 32)
    for i, row in enumerate(rows):
        image = Image.fromarray(np.ascontiguousarray(row[2:].reshape(3, 32, 32).transpose(1, 2, 0)))
        yield i, dict(id=f"{part}_{i:05d}", image=image, coarse_label=int(row[0]), label=int(row[1]))


def _cifar_member(archive: str, name: str) -> bytes:
    with tarfile.open(archive) as file:
        return file.extractfile(f"cifar-100-binary/{name}").read()


class _ZippedImages:
    """``{file name: open file}`` of the images in a zip file, each read when it is asked for."""

    def __init__(self, path: str):
        self._file = zipfile.ZipFile(path)
        self._members = {os.path.basename(member): member for member in self._file.namelist()}

    def __getitem__(self, name: str) -> io.BytesIO:
        return io.BytesIO(self._file.read(self._members[name]))


def make_builder(name: str, data_dir: str, files: str | None = None) -> Any:
    """The tfds builder of the data set, of which no part needs TensorFlow; ``files``: of CelebA, see above."""
    check_choice("data set", name, NAMES)
    tfds = import_tfds()
    stock = tfds.image_classification
    url = _URLS.get(name, "")

    class Omniglot(stock.Omniglot, skip_registration=True):
        def _split_generators(self, dl_manager):
            archives = dl_manager.download({split: url + file for split, file in _OMNIGLOT_FILES.items()})
            records = [record for path in archives.values() for _, record in omniglot_examples(os.fspath(path))]
            names = {record["label"]: f"{record['alphabet']}_{record['alphabet_char_id']}" for record in records}
            self.info.features["alphabet"].names = sorted({record["alphabet"] for record in records})
            self.info.features["label"].names = [names[label] for label in sorted(names)]
            return {split: omniglot_examples(os.fspath(path)) for split, path in archives.items()}

    class MNIST(stock.MNIST, skip_registration=True):
        name = "mnist"

        def _split_generators(self, dl_manager):
            files = dl_manager.download({split: [url + file for file in pair] for split, pair in _MNIST_FILES.items()})
            return {split: mnist_examples(*map(os.fspath, pair)) for split, pair in files.items()}

    class CIFAR100(stock.Cifar100, skip_registration=True):
        name = "cifar100"

        def _split_generators(self, dl_manager):
            archive = os.fspath(dl_manager.download({"images": url})["images"])
            for key, file in (("coarse_label", "coarse_label_names.txt"), ("label", "fine_label_names.txt")):
                self.info.features[key].names = _cifar_member(archive, file).decode().split()
            return {part: cifar100_examples(archive, part) for part in ("train", "test")}

    class CelebA(tfds.builder_cls("celeb_a"), skip_registration=True):
        name = "celeb_a"

        def _split_generators(self, dl_manager):
            lists = {key: os.path.join(files, file) for key, file in _CELEBA_LISTS.items()}
            images = _ZippedImages(os.path.join(files, _CELEBA_IMAGES))
            parts = enumerate(("train", "validation", "test"))
            return {part: self._generate_examples(number, lists, images) for number, part in parts}

    builder = {"omniglot": Omniglot, "mnist": MNIST, "cifar100": CIFAR100, "celeb_a": CelebA}[name]
    return builder(data_dir=data_dir, file_format="array_record")


def main() -> None:
    parser = argparse.ArgumentParser(description="Download and prepare a tfds data set without TensorFlow.")
    parser.add_argument("name", choices=sorted(NAMES))
    parser.add_argument("--data_dir", default=os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    parser.add_argument("--files", help="celeb_a: the folder of the files downloaded from its page")
    args = parser.parse_args()
    data_dir = os.path.abspath(os.path.expanduser(args.data_dir))
    try:
        if args.name == "celeb_a" and args.files:
            prepare_celeba(os.path.expanduser(args.files), data_dir)
        ensure_prepared(args.name, data_dir)
    except DataError as error:
        raise SystemExit(str(error)) from None
    print(f"{args.name} is prepared in {os.path.join(data_dir, args.name)}")


if __name__ == "__main__":
    main()
