"""A full disk: told apart from other errors, and told to the user."""

import errno
import functools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

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


def free_space(folder: Path) -> str:
    """``12.3 MB free on the file system of FOLDER``."""
    return f"{shutil.disk_usage(folder).free / 1e6:.1f} MB free on the file system of {folder}"


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
            where = f" writing {error.filename}" if error.filename else ""
            raise StorageError(
                f"{reason}{where} ({free_space(Path(workdir))}): the run stopped. Its checkpoints are whole; once "
                "there is space, the same command continues from the latest"
            ) from error

    return explained
