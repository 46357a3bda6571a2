"""Class-disjoint splits, explicit and reproducible.

Shuffles follow the hash of the class id, not a random generator: they are the same in every version of every
library, and adding a class does not move the others.
"""

import hashlib

import numpy as np

from hfsgm_jax.errors import DataError

SCHEMES = ("back_eval", "official", "ns", "alphabet", "random")
SPLITS = ("train", "heldout", "val", "test")
_NS = (1000, 200, 423)  # classes of train, val, test


def split_classes(
    scheme: str, label: np.ndarray, group: np.ndarray, part: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """Ids of the classes of train, val and test.

    Args:
      scheme: `ns`: Omniglot's 1,623 characters, mixed, 1000/200/423 (the same for every seed).
        `official`, `back_eval`: the source's own parts; Omniglot: the first nine tenths of the background characters
        by label (867) / the others (97) / the evaluation characters (659); strokes: 600/50/100; MNIST: all test.
        `alphabet`: as back_eval, but a sixth (5 of 30) of the background alphabets are validation.
        `official` alone: double_mnist, triple_mnist: 64/16/20 %; cifar100: 60/20/20 of FS-CIFAR100; celeba: 70/10/20 %
        of the identities in ascending order.
        `random`: 10 % (at least one) val, 20 % (at least one) test, the others train, shuffled by ``seed``.
      label, group, part: ``[classes]``; part is 0 for official training, 1 validation, 2 test classes.
      seed: of `random`.

    Raises:
      DataError: the scheme does not fit the source, or there are too few classes.
    """
    if scheme == "random":
        return _random(label, seed)
    if scheme == "ns":
        if len(label) != sum(_NS):
            raise DataError(f"data.split='ns' needs Omniglot's {sum(_NS)} classes, there are {len(label)}.")
        return dict(zip(("train", "val", "test"), map(np.sort, np.split(_shuffled(label, "ns"), np.cumsum(_NS)[:2]))))
    if scheme == "alphabet":
        groups = np.unique(group[part < 2])
        if len(groups) < 2:
            raise DataError(f"data.split='alphabet' needs at least 2 background alphabets, there are {len(groups)}.")
        held = _shuffled(groups, "alphabet")[: max(1, len(groups) // 6)]
        val = label[(part < 2) & np.isin(group, held)]
    elif (part == 1).any():
        val = label[part == 1]
    else:
        val = label[part < 2][(part < 2).sum() * 9 // 10 :]
    return {"train": np.setdiff1d(label[part < 2], val), "val": val, "test": label[part == 2]}


def _random(label: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    if len(label) < 3:
        raise DataError(
            f"too few classes for train, val and test: data.split='random' needs 3, there are {len(label)}."
        )
    val, test = (max(1, round(share * len(label))) for share in (0.1, 0.2))
    val, test, train = np.split(_shuffled(label, f"random:{seed}"), [val, val + test])
    return {"train": np.sort(train), "val": np.sort(val), "test": np.sort(test)}


def _shuffled(ids: np.ndarray, salt: str) -> np.ndarray:
    keys = [hashlib.sha256(f"{salt}:{i}".encode()).digest() for i in ids]
    return ids[sorted(range(len(ids)), key=keys.__getitem__)]
