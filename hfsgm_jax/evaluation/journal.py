"""What an interrupted evaluation had computed, so that a rerun goes on from there."""

import contextlib
import functools
import hashlib
import inspect
import os
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np

from hfsgm_jax import processes

PACKAGE = Path(__file__).resolve().parents[1]
LEFT_FOR = 30 * 24 * 3600.0  # seconds that batches of an interrupted task wait to be continued


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


def _age(path: Path) -> float:
    """Seconds since a file was written; 0 if it is gone, which another process may have seen to."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@functools.cache
def code_of(function: Callable) -> str:
    """A name for the code that ``function`` runs: JAX's version, this package's files and the function's own."""
    files = {*PACKAGE.rglob("*.py"), Path(inspect.getsourcefile(function) or __file__)}
    sha = hashlib.sha256(jax.__version__.encode())
    for path in sorted(files):
        sha.update(path.read_bytes())
    return sha.hexdigest()[:32]


class Journal:
    """Finished batches of a task that has not ended yet: a file each, gone when the task has ended.

    A batch is named by all that its result depends on, so that a rerun with other options, of another checkpoint
    or by other code finds nothing of the old one, and leaves it: the interrupted call may still be continued, for
    `LEFT_FOR` seconds. Every process reads, the first one writes.
    """

    def __init__(self, folder: str | os.PathLike):
        self._root = self._folder = Path(folder)
        self._used: set[Path] = set()
        self._old: set[Path] = set()

    def begin(self, task: str) -> None:
        """What is recalled and kept from now on is the task's."""
        self._folder = self._root / task
        self._used.clear()
        # Earlier versions kept all tasks' batches in one folder: no task finds them any more.
        found = {*self._folder.glob("*.npz"), *self._root.glob("*.npz")}
        self._old = {path for path in found if _age(path) > LEFT_FOR}

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
        path = self._folder / f"{name}.npz"
        with processes.replacing(path) as partial, open(partial, "wb") as file:
            np.savez(file, **result)
        self._used.add(path)

    def release(self) -> None:
        """Leaves what was recalled or kept since the task began for a rerun: it has failed."""
        self._used.clear()
        self._old.clear()

    def forget(self) -> None:
        """Drops what was recalled or kept, and what the task found that is too old to be continued: it has ended."""
        gone = self._used | self._old
        self.release()
        if not processes.is_writer():
            return
        for path in gone:
            path.unlink(missing_ok=True)
        for folder in (self._folder, self._root):
            with contextlib.suppress(OSError):  # it is not there, or not empty
                folder.rmdir()
