"""Sources read through TensorFlow Datasets, without TensorFlow. tfds is imported only when raw data are read."""

import os
from typing import Any

import numpy as np

from hfsgm_jax.data.raw import Raw

OMNIGLOT_VERSION = "3.0.0"
MNIST_VERSION = "3.0.1"
_CHUNK = 2000  # images decoded at once


def tfds_dir(config: Any) -> str:
    """The tfds data directory: ``data.data_dir``, else TFDS_DATA_DIR, else tfds's default."""
    default = os.path.join("~", "tensorflow_datasets")
    # tfds reads TFDS_DATA_DIR when it is imported, once; read it here, so that it also works later.
    path = config.data_dir or os.environ.get("TFDS_DATA_DIR") or default
    return os.path.abspath(os.path.expanduser(path))


def read_omniglot(config: Any) -> Raw:
    """Omniglot 105x105 with ink 255 on 0; label 0..1622, group = alphabet; parts: background, evaluation."""
    from hfsgm_jax.data import prepare

    data_dir = tfds_dir(config)
    prepare.ensure_prepared("omniglot", data_dir)
    images, labels, groups, parts = [], [], [], []
    for part, split in ((0, "train"), (2, "test")):
        for records in _chunks("omniglot", split, data_dir):
            # 1-bit PNGs: paper is 1 by Pillow and 255 by OpenCV, ink is 0 by both.
            images.append(np.stack([record["image"][..., :1] == 0 for record in records]).astype(np.uint8) * 255)
            labels.extend(record["label"] for record in records)
            groups.extend(record["alphabet"] for record in records)
            parts.extend([part] * len(records))
    return Raw(np.concatenate(images), np.array(labels), np.array(groups), np.array(parts))


def read_mnist(config: Any) -> Raw:
    """MNIST 28x28, of whichever of its splits train and test are prepared."""
    from hfsgm_jax.data import prepare

    data_dir = tfds_dir(config)
    prepare.ensure_prepared("mnist", data_dir)
    images, labels, parts = [], [], []
    splits = _mnist_splits(data_dir)
    for split in splits:
        for records in _chunks("mnist", split, data_dir):
            images.extend(record["image"] for record in records)
            labels.extend(record["label"] for record in records)
            parts.extend([0 if split == "train" else 2] * len(records))
    return Raw(np.stack(images), np.array(labels), parts=np.array(parts), info={"tfds_splits": splits})


def mnist_fingerprint(config: Any) -> str | None:
    """The splits that are prepared: there may be the test split only."""
    splits = _mnist_splits(tfds_dir(config))
    return "-".join([MNIST_VERSION, *splits]) if splits else None


def _mnist_splits(data_dir: str) -> list[str]:
    folder = os.path.join(data_dir, "mnist", MNIST_VERSION)
    files = os.listdir(folder) if os.path.isdir(folder) else []
    return [
        split for split in ("train", "test") if any(file.startswith(f"mnist-{split}.array_record") for file in files)
    ]


def _chunks(name: str, split: str, data_dir: str):
    """Lists of decoded records of a split, in tfds's fixed order."""
    import tensorflow_datasets as tfds

    source = tfds.data_source(name, split=split, data_dir=data_dir)
    for start in range(0, len(source), _CHUNK):
        yield source.__getitems__(list(range(start, min(start + _CHUNK, len(source)))))
