"""Writing into the folder of a run: whether it can be written, its config, and a full disk told to the user."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from hfsgm_jax import config as config_lib
from hfsgm_jax import processes
from hfsgm_jax.errors import ConfigError
from hfsgm_jax.run_folder import CHECKPOINTS, saved_steps

# A full file system, a quota, the largest file allowed (ulimit -f, or the file system's).
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StorageError(RuntimeError):
    """A full disk: the message says where, and what of the run is whole."""


@contextlib.contextmanager
def explains_full_disk(workdir: Path) -> Iterator[None]:
    """The error of a full disk, of Python or of a library, becomes a `StorageError`."""
    try:
        yield
    except Exception as error:  # Orbax raises whatever its storage layers raise
        # Writers in C++ only tell it in their message.
        reason = next((os.strerror(code) for code in _FULL if os.strerror(code) in str(error)), None)
        if reason is None:
            raise
        file = getattr(error, "filename", None)
        place, steps = _existing(Path(file or workdir)), saved_steps(workdir / CHECKPOINTS)
        after = f"continues from checkpoint {steps[-1]}, which is whole" if steps else "begins anew"
        raise StorageError(
            f"{reason}{f' writing {file}' if file else ''} ({shutil.disk_usage(place).free / 1e6:.1f} MB free on the "
            f"file system of {place}): the run stopped; once there is space, the same command {after}"
        ) from error


def _existing(path: Path) -> Path:
    """``path``, or the nearest folder above it that exists."""
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())


def check_folder(workdir: Path) -> None:
    """Raises a ConfigError where ``workdir`` is no folder or cannot be written; makes nothing."""
    place = _existing(workdir)
    if not place.is_dir():
        raise ConfigError(f"--workdir={workdir}: {place} is a file, not a folder; give another one")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(
            f"--workdir={workdir}: {place} cannot be written; give another one, or change its permissions"
        )


def write_config(config: ConfigDict, workdir: Path, data_sha256: str) -> None:
    """Writes ``config.json``, in one process, of a run that all do alike.

    Raises:
      ConfigError: the processes have different configs or data, or do not see the same folder.
    """
    same = {key: value for key, value in config_lib.flatten(config).items() if key not in config_lib.FREE_KEYS}
    processes.check_same(json.dumps(same, sort_keys=True), "the config")
    processes.check_same(data_sha256, "the training data")

    def write():
        if processes.is_writer():
            config_lib.dump_config(config, workdir)
        elif not (workdir / config_lib.CONFIG_FILE).exists():
            raise ConfigError(
                f"the {config_lib.CONFIG_FILE} that process 0 has just written in {workdir} is not there: --workdir "
                "has to be a folder that all processes share"
            )

    processes.writer_first(write, config_lib.CONFIG_FILE)
