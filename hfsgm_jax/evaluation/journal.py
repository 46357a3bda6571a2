"""What an interrupted evaluation had computed, so that a rerun goes on from there."""

import hashlib
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np


def digest(*parts: object) -> str:
    """A name for a computation: strings by their repr, arrays (also in pytrees) by their bytes."""
    sha = hashlib.sha256()
    for leaf in jax.tree.leaves(parts):
        if isinstance(leaf, np.ndarray | jax.Array):
            data = np.ascontiguousarray(np.asarray(leaf))
            sha.update(f"{data.dtype}{data.shape}".encode())
            sha.update(data.tobytes())
        else:
            sha.update(repr(leaf).encode())
    return sha.hexdigest()[:32]


class Journal:
    """Finished batches of a task that has not ended yet: a file each, gone when the task has ended.

    A batch is named by all that its result depends on, so that a rerun with other options or of
    another checkpoint finds nothing of the old one.
    """

    def __init__(self, folder: str | os.PathLike):
        self._folder = Path(folder)
        self._used: set[Path] = set()

    def recall(self, name: str) -> dict[str, np.ndarray] | None:
        """The result of this name, or None."""
        path = self._folder / f"{name}.npz"
        try:
            with np.load(path, allow_pickle=False) as file:
                result = dict(file)
        except (OSError, EOFError, ValueError, zipfile.BadZipFile):  # none, or cut short by a full disk
            return None
        self._used.add(path)
        return result

    def keep(self, name: str, result: Mapping[str, np.ndarray]) -> None:
        """Writes a result, all of it or nothing."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{name}.npz"
        partial = path.with_suffix(".part")
        with open(partial, "wb") as file:
            np.savez(file, **result)
        os.replace(partial, path)
        self._used.add(path)

    def release(self) -> None:
        """Leaves what was recalled or kept since the last call for a rerun: its task has failed."""
        self._used.clear()

    def forget(self) -> None:
        """Drops what was recalled or kept since the last call: its task has ended."""
        for path in self._used:
            path.unlink(missing_ok=True)
        self._used.clear()
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            shutil.rmtree(self._folder, ignore_errors=True)
