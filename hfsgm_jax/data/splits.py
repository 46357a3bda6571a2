"""Class-disjoint splits, explicit and reproducible.

Shuffles follow the hash of a class, not a random generator: they are the same in every version of every library, and
a class more moves few others.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from hfsgm_jax.errors import DataError

TEST_CLASSES = {"vhe_faces": 641, "vhe_silhouettes": 10}  # the others train
RANDOM = ("random", *TEST_CLASSES)
SCHEMES = ("back_eval", "official", "ns", "vhe_1200", "alphabet", *RANDOM)
SPLITS = ("train", "heldout", "val", "test")
_NS = (1000, 200, 423)  # classes of train, val, test


def split_classes(
    scheme: str, label: np.ndarray, group: np.ndarray, part: np.ndarray, seed: int, names: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Ids of the classes of train, val and test.

    Args:
      scheme: `ns`: Omniglot's 1,623 characters, mixed, 1000/200/423, every alphabet in each part by its share.
        `vhe_1200` (VHE paper, Tables 1 and 2): the 1,200 characters of `ns` that are no test characters to train, 200
        of them to validate as well (the paper selects by training error) / the same 423.
        `official`, `back_eval`: the source's own parts; Omniglot: nine tenths of the background characters (867) / a
        tenth of every background alphabet (97) / the evaluation characters (659); strokes: 600/50/100; MNIST: all test.
        `alphabet`: as back_eval, but a sixth (5 of 30) of the background alphabets are validation (VHE, Table 3).
        `official` alone: double_mnist, triple_mnist: 64/16/20 %; cifar100: 60/20/20 of FS-CIFAR100; celeba: 70/10/20 %
        of the identities in ascending order.
        `random`: 10 % (at least one) val, 20 % (at least one) test, the others train, shuffled by ``seed``.
        `vhe_faces`, `vhe_silhouettes` (VHE paper, Table 5 and supplement 6.6): 641 or 10 test, the others train, and a
        tenth of them validates as well.
      label, group, part: ``[classes]``; part is 0 for official training, 1 validation, 2 test classes.
      seed: of `random` and these two.
      names: of the classes, by which these shuffle; by default their ids.

    Raises:
      DataError: the scheme does not fit the source, or there are too few classes.
    """
    if scheme in RANDOM:
        return _random(scheme, label, seed, names)
    if scheme in ("ns", "vhe_1200"):
        if len(label) != sum(_NS):
            raise DataError(f"data.split={scheme!r} needs Omniglot's {sum(_NS)} classes, there are {len(label)}.")
        test = _spread(label, group, _NS[2])
        rest = ~np.isin(label, test)
        val = _spread(label[rest], group[rest], _NS[1])
        train = label[rest] if scheme == "vhe_1200" else np.setdiff1d(label[rest], val)
        return {"train": train, "val": val, "test": test}
    if scheme == "alphabet":
        groups = np.unique(group[part < 2])
        held = _shuffled(groups, "alphabet")[: max(1, len(groups) // 6)]  # of one group all: no class trains
        val = label[(part < 2) & np.isin(group, held)]
    elif (part == 1).any():
        val = label[part == 1]
    else:
        known = part < 2
        val = _spread(label[known], group[known], known.sum() - known.sum() * 9 // 10)
    return {"train": np.setdiff1d(label[part < 2], val), "val": val, "test": label[part == 2]}


def _spread(label: np.ndarray, group: np.ndarray, num: int) -> np.ndarray:
    """``num`` of the classes, in ascending order: of every group a share, at most one more or fewer than its due."""
    order = _shuffled(label, "spread")
    order = order[np.argsort(group[np.searchsorted(label, order)], kind="stable")]
    return np.sort(order[(2 * np.arange(num) + 1) * len(label) // max(1, 2 * num)])


def _random(scheme: str, label: np.ndarray, seed: int, names: Sequence[str] | None) -> dict[str, np.ndarray]:
    test = TEST_CLASSES.get(scheme, max(1, round(0.2 * len(label))))
    if len(label) < test + 2:
        other = "" if scheme == "random" else "; data.split=random takes a fifth for test"
        raise DataError(f"too few classes: data.split={scheme!r} needs {test + 2}, there are {len(label)}{other}.")
    val = max(1, round(0.1 * (len(label) if scheme == "random" else len(label) - test)))
    val, test, train = map(np.sort, np.split(_shuffled(label, f"random:{seed}", names), [val, val + test]))
    return {"train": train if scheme == "random" else np.union1d(train, val), "val": val, "test": test}


def _shuffled(ids: np.ndarray, salt: str, names: Sequence[str] | None = None) -> np.ndarray:
    """The ids in the order of a hash of their names, by default themselves."""
    keys = [hashlib.sha256(f"{salt}:{name}".encode()).digest() for name in (ids if names is None else names)]
    return ids[sorted(range(len(ids)), key=keys.__getitem__)]
