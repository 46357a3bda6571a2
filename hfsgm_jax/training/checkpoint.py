"""Checkpoints: a thin adapter over Orbax's CheckpointManager (asynchronous, atomic saves), and resuming from them."""

import contextlib
import json
import logging
import math
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from hfsgm_jax import processes
from hfsgm_jax.errors import CheckpointError
from hfsgm_jax.run_folder import CHECKPOINTS, MANIFEST, SCORE, checksum_of, damage, facts, read_item, saved_steps
from hfsgm_jax.training.state import TrainState

MODEL_FIELDS = ("params", "ema_params", "model_state")


def _split(state: TrainState) -> dict[str, dict[str, Any]]:
    """The items of a checkpoint: what an evaluation needs, and the rest, without empty entries."""
    fields = {name: getattr(state, name) for name in state.__dataclass_fields__}
    fields = {name: value for name, value in fields.items() if jax.tree.leaves(value)}
    model = {name: fields.pop(name) for name in MODEL_FIELDS if name in fields}
    return {"model": model, "training": fields}


def _score(found: dict[str, float] | None) -> float:
    return (found or {}).get(SCORE, math.inf)


def _is_not_raised_too(record: logging.LogRecord) -> bool:
    """Of the log: not the tracebacks that Orbax prints of errors which it also raises."""
    return not (record.exc_info and "orbax" in Path(record.pathname).parts)


class Checkpoints(contextlib.AbstractContextManager):
    """Saves the checkpoints of one run: keeps the ``keep`` latest and the best by `SCORE`."""

    def __init__(self, workdir: str | os.PathLike, keep: int = 2):
        self._folder = Path(workdir).absolute() / CHECKPOINTS
        self._saving: int | None = None
        logging.getLogger("absl").addFilter(_is_not_raised_too)
        best = BestN(get_metric_fn=_score, reverse=True, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=AnyPreservationPolicy([LatestN(keep), best]),
            best_fn=_score,
            best_mode="min",
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
        items = {name: ocp.args.StandardSave(item) for name, item in _split(state).items()}
        found = {"seconds": seconds} | ({SCORE: float(score)} if math.isfinite(score) else {})
        self._manager.save(self._saving, args=ocp.args.Composite(**items), metrics=found)

    def wait(self) -> None:
        """Returns when what was saved is on disk, or raises the error that writing it met."""
        self._manager.wait_until_finished()

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        try:
            self._manager.close()  # waits for the save under way
        except Exception:  # Orbax raises whatever its storage layers raise
            if kind is None:  # else a failure is on its way already
                raise

    def _write_manifest(self) -> None:
        """Lists the files of a checkpoint; called by the first process when all have written.

        The folder's name is the step's, with or without Orbax's ending for what is not complete yet.
        """
        for folder in (self._folder / str(self._saving), *self._folder.glob(f"{self._saving}.*")):
            if folder.is_dir():
                files = (path for path in sorted(folder.glob("*/**/*")) if path.is_file())
                listed = {path.relative_to(folder).as_posix(): checksum_of(path) for path in files}
                (folder / MANIFEST).write_text(json.dumps(listed) + "\n")


def restore_latest(workdir: str | os.PathLike, like: TrainState) -> tuple[TrainState, float] | None:
    """``(state, seconds of training)`` of the latest whole checkpoint, with the shardings of ``like``; or None.

    Damaged ones after it are moved to ``unreadable-STEP`` beside the others, with a warning.

    Raises:
      CheckpointError: there are checkpoints, and none is whole, or not of this model.
    """
    folder = Path(workdir).absolute() / CHECKPOINTS
    processes.writer_first(lambda: _set_damaged_aside(folder) if processes.is_writer() else None, "checkpoints")
    steps = saved_steps(folder)
    if not steps:
        return None
    latest = folder / str(steps[-1])
    try:
        items = [read_item(latest / name, item) for name, item in _split(like).items()]
    except Exception as error:  # Orbax raises whatever its storage layers raise
        raise CheckpointError(f"checkpoint {steps[-1]} of {workdir}: {processes.first_line(error)[:300]}") from error
    return like.replace(**items[0], **items[1]), facts(latest)["seconds"]


def _set_damaged_aside(folder: Path) -> None:
    bad = {step: reason for step in saved_steps(folder) if (reason := damage(folder / str(step)))}
    good = [step for step in saved_steps(folder) if step not in bad]
    if bad and not good:
        latest = max(bad)
        raise CheckpointError(
            f"none of the checkpoints {sorted(bad)} in {folder} can be read; of the latest, {bad[latest]}"
        )
    for step, reason in bad.items():
        if step < good[-1] and reason.endswith("is missing"):  # a kill cut its deletion short
            shutil.rmtree(folder / str(step))
            continue
        place = folder / f"unreadable-{step}"
        shutil.rmtree(place, ignore_errors=True)
        os.replace(folder / str(step), place)
        again = f": steps {good[-1] + 1} to {step} are done again" if step > good[-1] else ", which is whole"
        warnings.warn(
            f"checkpoint {step} cannot be read ({reason}); continuing from checkpoint {good[-1]}{again}. What is left "
            f"of it is in {place}",
            stacklevel=2,
        )
