"""Downloads and prepares tfds data sets without TensorFlow.

    python -m hfsgm_jax.data.prepare omniglot [--data_dir=DIR]

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
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from hfsgm_jax.data.errors import DataError, check_choice

_URLS = {
    "omniglot": "https://github.com/brendenlake/omniglot/raw/master/python/",
    "mnist": "https://storage.googleapis.com/cvdf-datasets/mnist/",
}
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


def ensure_prepared(name: str, data_dir: str) -> None:
    """Downloads and prepares the data set into ``data_dir`` unless it is there.

    Raises:
      DataError: it is not there and cannot be downloaded; says what to run.
    """
    if _is_prepared(name, data_dir):
        return
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


def _check_online(url: str) -> None:
    """Fails at once without a connection: the download manager of tfds would retry for minutes."""
    import requests  # of tfds

    requests.head(url, timeout=10)


def _is_prepared(name: str, data_dir: str) -> bool:
    folder = os.path.join(data_dir, name)
    versions = os.listdir(folder) if os.path.isdir(folder) else []
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


def make_builder(name: str, data_dir: str) -> Any:
    """The tfds builder of the data set, of which no part needs TensorFlow."""
    check_choice("data set", name, _URLS)
    import tensorflow_datasets as tfds

    stock = tfds.image_classification
    url = _URLS[name]

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

    builder = {"omniglot": Omniglot, "mnist": MNIST}[name]
    return builder(data_dir=data_dir, file_format="array_record")


def main() -> None:
    parser = argparse.ArgumentParser(description="Download and prepare a tfds data set without TensorFlow.")
    parser.add_argument("name", choices=sorted(_URLS))
    parser.add_argument("--data_dir", default=os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    args = parser.parse_args()
    data_dir = os.path.abspath(os.path.expanduser(args.data_dir))
    try:
        ensure_prepared(args.name, data_dir)
    except DataError as error:
        raise SystemExit(str(error)) from None
    print(f"{args.name} is prepared in {os.path.join(data_dir, args.name)}")


if __name__ == "__main__":
    main()
