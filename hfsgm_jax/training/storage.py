"""A full disk: told apart from other errors, and told to the user."""

import errno
import functools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

CHECKPOINTS = "checkpoints"  # folder of a run

# A full file system, a quota, the largest file allowed (ulimit -f, or the file system's).
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StorageError(RuntimeError):
    """Something of a run could not be written; the message says what, why, and what is still there."""


def full_disk(error: BaseException) -> str | None:
    """In words, the way in which the disk is full, if that is what the error says."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return os.strerror(error.errno)
    # Writers in C++ only tell it in their message.
    return next((os.strerror(code) for code in _FULL if os.strerror(code) in str(error)), None)


def free_space(path: Path) -> str:
    """``12.3 MB free on the file system of FOLDER``: of ``path``, or of the nearest folder above it that exists."""
    path = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    return f"{shutil.disk_usage(path).free / 1e6:.1f} MB free on the file system of {path}"


def saved_steps(folder: Path) -> list[int]:
    """The checkpoints in ``folder`` that are complete: until then their folders have other names."""
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal()) if folder.is_dir() else []


def explains_full_disk(train: Callable[[Any, Any], T]) -> Callable[[Any, Any], T]:
    """Decorates ``train(config, workdir)``: the OSError of a full disk becomes a `StorageError`."""

    @functools.wraps(train)
    def explained(config: Any, workdir: str | os.PathLike) -> T:
        try:
            return train(config, workdir)
        except OSError as error:
            reason = full_disk(error)
            if reason is None:
                raise
            file = error.filename if isinstance(error.filename, str | os.PathLike) else None
            steps = saved_steps(Path(workdir) / CHECKPOINTS)
            after = f"continues from checkpoint {steps[-1]}, which is whole" if steps else "begins anew"
            raise StorageError(
                f"{reason}{f' writing {file}' if file else ''} ({free_space(Path(file or workdir))}): the run stopped; "
                f"once there is space, the same command {after}"
            ) from error

    return explained
