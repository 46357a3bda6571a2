"""Class-disjoint splits, explicit and reproducible.

Shuffles follow the hash of the class id, not a random generator: they are the same in every version of every
library, and adding a class moves no other one's place.
"""

import hashlib

import numpy as np

from hfsgm_jax.data.errors import DataError, check_choice

SCHEMES = ("back_eval", "official", "ns", "alphabet", "random")
SPLITS = ("train", "heldout", "val", "test")
_NS = (1000, 200, 423)  # classes of train, val, test


def split_classes(
    source: str, scheme: str, label: np.ndarray, group: np.ndarray, part: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """Ids of the classes of train, val and test.

    Args:
      source: name of the source.
      scheme: `ns`: Omniglot's 1,623 characters, mixed, 1000/200/423 (the same for every seed).
        `official`, `back_eval`: the source's own parts; Omniglot: the first nine tenths of the background characters
        by label (867) / the others (97) / the evaluation characters (659); strokes: 600/50/100; MNIST: all test.
        `alphabet`: as back_eval, but a sixth (5 of 30) of the background alphabets are validation.
        `official` alone: double_mnist, triple_mnist: 64/16/20 %; cifar100: 60/20/20 of FS-CIFAR100; celeba: 70/10/20 %
        of the identities in ascending order.
        `random`: 10 % (at least one) val, 20 % (at least one) test, the others train, shuffled by ``seed``.
      label, group, part: ``[classes]``; part is 0 for official training, 1 validation, 2 test classes. A label
        may occur twice, with the training and the test images of one class.
      seed: of `random`.

    Raises:
      DataError: the scheme does not fit the source, or there are too few classes.
    """
    check_choice("data.split", scheme, SCHEMES)
    classes = np.unique(label)
    if scheme == "random":
        return _random(classes, seed)
    if source == "mnist":  # ten digits only: a test of transfer
        return {"train": classes[:0], "val": classes[:0], "test": classes}
    back, test = np.unique(label[part < 2]), np.unique(label[part == 2])
    if scheme == "ns":
        if len(classes) != sum(_NS):
            raise DataError(f"data.split='ns' needs Omniglot's {sum(_NS)} classes, there are {len(classes)}.")
        order = _shuffled(classes, "ns")
        return dict(zip(("train", "val", "test"), map(np.sort, np.split(order, np.cumsum(_NS)[:2])), strict=True))
    if scheme == "alphabet":
        groups = np.unique(group[part < 2])
        if len(groups) < 2:
            raise DataError(f"data.split='alphabet' needs at least 2 background alphabets, there are {len(groups)}.")
        held = _shuffled(groups, "alphabet")[: max(1, len(groups) // 6)]
        val = np.unique(label[(part < 2) & np.isin(group, held)])
    elif (part == 1).any():
        val = np.unique(label[part == 1])
    else:
        val = back[len(back) * 9 // 10 :]
    return {"train": np.setdiff1d(back, val), "val": val, "test": test}


def _random(classes: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    if len(classes) < 3:
        raise DataError(
            f"Too few classes: {len(classes)}; data.split='random' needs at least 3, one each for train, val and test."
        )
    val, test = (max(1, round(share * len(classes))) for share in (0.1, 0.2))
    order = _shuffled(classes, f"random:{seed}")
    return {
        "val": np.sort(order[:val]),
        "test": np.sort(order[val : val + test]),
        "train": np.sort(order[val + test :]),
    }


def _shuffled(ids: np.ndarray, salt: str) -> np.ndarray:
    keys = [hashlib.sha256(f"{salt}:{i}".encode()).digest() for i in ids]
    return ids[sorted(range(len(ids)), key=keys.__getitem__)]
