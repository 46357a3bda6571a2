"""Writing into the folder of a run: its checkpoints, resuming from them, its config, and a full disk told to the user.

Checkpoints are those of Orbax's CheckpointManager (asynchronous, atomic), with checksums.
"""

import contextlib
import errno
import json
import math
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from ml_collections import ConfigDict
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from hfsgm_jax import config as config_lib
from hfsgm_jax import processes
from hfsgm_jax.errors import CheckpointError, ConfigError
from hfsgm_jax.run_folder import CHECKPOINTS, SCORE, damage, facts, read_item, saved_steps, write_manifest
from hfsgm_jax.training.state import TrainState, as_flat, as_tree

# A full file system, a quota, the largest file allowed (ulimit -f, or the file system's).
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MODEL_FIELDS = ("params", "ema_params", "model_state")


def _split(state: TrainState) -> dict[str, dict[str, Any]]:
    """The items of a checkpoint: what an evaluation needs, and the rest, without empty entries."""
    fields = {name: getattr(state, name) for name in state.__dataclass_fields__}
    fields = {name: value for name, value in fields.items() if jax.tree.leaves(value)}
    model = {name: fields.pop(name) for name in MODEL_FIELDS if name in fields}
    return {"model": model, "training": fields}


class Checkpoints(contextlib.AbstractContextManager):
    """Saves the checkpoints of one run: keeps the ``keep`` latest and the best by `SCORE`."""

    def __init__(self, workdir: str | os.PathLike, keep: int = 2):
        self._folder = Path(workdir).absolute() / CHECKPOINTS
        self._saving: int | None = None
        score = lambda found: (found or {}).get(SCORE, math.inf)
        best = BestN(get_metric_fn=score, reverse=True, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=AnyPreservationPolicy([LatestN(keep), best]),
            best_fn=score,
            cleanup_tmp_directories=True,
            # Orbax takes time from a clock that jumps when a laptop wakes: shorter, that is a failure to save.
            async_options=ocp.AsyncOptions(timeout_secs=10**6, post_finalization_callback=self._write_manifest),
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def save(self, state: TrainState, seconds: float, score: float = math.nan) -> None:
        """Starts a save, after the one before has ended.

        Args:
          seconds: of training until now.
          score: of the validation at this very step, if there was one.
        """
        self.wait()
        self._saving = int(state.step)
        if jax.default_backend() == "cpu":
            # The writer would read the very memory that the next step, which is given it, overwrites.
            state = jax.tree.map(lambda x: x.copy(), state)
        state = state.with_parameters(as_tree)
        items = {name: ocp.args.StandardSave(item) for name, item in _split(state).items()}
        found = {"seconds": seconds} | ({SCORE: float(score)} if math.isfinite(score) else {})
        self._manager.save(self._saving, args=ocp.args.Composite(**items), metrics=found)

    def wait(self) -> None:
        """Returns when what was saved is on disk, or raises the error that writing it met."""
        self._manager.wait_until_finished()

    def __exit__(self, *_) -> None:
        self._manager.close()  # waits for the save under way

    def _write_manifest(self) -> None:
        """Lists the files of a checkpoint; called by the first process when all have written.

        The folder's name is the step's, with or without Orbax's ending for what is not complete yet.
        """
        for folder in (self._folder / str(self._saving), *self._folder.glob(f"{self._saving}.*")):
            if folder.is_dir():
                write_manifest(folder, (path for path in sorted(folder.glob("*/**/*")) if path.is_file()))


def restore_latest(workdir: str | os.PathLike, like: TrainState) -> tuple[TrainState, float] | None:
    """``(state, seconds of training)`` of the latest whole checkpoint, with the sharding of ``like``; or None.

    Damaged ones after it are moved to ``unreadable-STEP`` beside the others, with a warning.

    Raises:
      CheckpointError: there are checkpoints, and none is whole.
    """
    folder = Path(workdir).absolute() / CHECKPOINTS
    processes.writer_first(lambda: _set_damaged_aside(folder) if processes.is_writer() else None, "checkpoints")
    steps = saved_steps(folder)
    if not steps:
        return None
    latest, sharding = folder / str(steps[-1]), like.step.sharding
    like = jax.eval_shape(lambda state: state.with_parameters(as_tree), like)
    like = jax.tree.map(lambda x: x.update(sharding=sharding), like)
    items = [read_item(latest / name, item) for name, item in _split(like).items()]
    return like.replace(**items[0], **items[1]).with_parameters(as_flat), facts(latest)["seconds"]


def _set_damaged_aside(folder: Path) -> None:
    bad = {step: reason for step in saved_steps(folder) if (reason := damage(folder / str(step)))}
    good = [step for step in saved_steps(folder) if step not in bad]
    if bad and not good:
        raise CheckpointError(f"none of the checkpoints {sorted(bad)} in {folder} can be read: {bad[max(bad)]}")
    for step, reason in bad.items():
        if step < good[-1] and reason.endswith("is missing"):  # a kill cut its deletion short
            shutil.rmtree(folder / str(step))
            continue
        place = folder / f"unreadable-{step}"
        shutil.rmtree(place, ignore_errors=True)
        os.replace(folder / str(step), place)
        problem = f"checkpoint {step} cannot be read ({reason}) and is now {place}"
        again = f": steps {good[-1] + 1} to {step} are done again" if step > good[-1] else ", which is whole"
        warnings.warn(f"{problem}; continuing from checkpoint {good[-1]}{again}", stacklevel=2)


# --- the folder ---------------------------------------------------------------------------------


class StorageError(RuntimeError):
    """A full disk: the message says where, and what of the run is whole."""


@contextlib.contextmanager
def explains_full_disk(workdir: Path) -> Iterator[None]:
    """The error of a full disk, of Python or of a library, becomes a `StorageError`."""
    try:
        yield
    except Exception as error:  # Orbax raises whatever its storage layers raise
        # Writers in C++ only tell it in their message.
        reason = next((os.strerror(code) for code in FULL if os.strerror(code) in str(error)), None)
        if reason is None:
            raise
        place, steps = getattr(error, "filename", None) or workdir, saved_steps(workdir / CHECKPOINTS)
        after = f"continues from checkpoint {steps[-1]}, which is whole" if steps else "begins anew"
        said = f"{reason}, writing {place}: the run stopped; once there is space, the same command {after}"
        raise StorageError(said) from error


def take_folder(workdir: Path, config: ConfigDict, data_sha256: str) -> None:
    """Makes the folder of a run, or finds that of the same run; writes ``config.json`` in one of all processes.

    Raises:
      ConfigError: it cannot be a folder, or holds another run; the processes have different configs or data, or do not
        see the same folder.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--workdir={workdir} cannot be a folder: {error}") from None
    config_lib.check_same_run(workdir, config)
    same = {key: value for key, value in config_lib.flatten(config).items() if key not in config_lib.FREE_KEYS}
    processes.check_same(json.dumps([same, data_sha256], sort_keys=True), "the config or the training data")

    def write():
        if not config_lib.dump_config(config, workdir).exists():
            raise ConfigError(f"{workdir} is not what process 0 has written: all share the folder --workdir")

    processes.writer_first(write, config_lib.CONFIG_FILE)
