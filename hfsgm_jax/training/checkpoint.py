"""Checkpoints: a thin adapter over Orbax's CheckpointManager (asynchronous, atomic saves)."""

import contextlib
import json
import logging
import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from hfsgm_jax import processes
from hfsgm_jax.training import integrity
from hfsgm_jax.training.state import TrainState
from hfsgm_jax.training.storage import CHECKPOINTS, StorageError, free_space, full_disk, saved_steps

# Orbax takes time from a clock that can be set: shorter, a jump while saving would be a failure to save.
SAVE_SECONDS = 20 * 24 * 3600
MODEL_FIELDS = ("params", "ema_params", "model_state")


class CheckpointError(ValueError):
    """No checkpoint can be read, or not the one asked for."""


def _split(state: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    """What an evaluation needs, and the rest of the state, as dictionaries without empty entries."""
    fields = {name: getattr(state, name) for name in state.__dataclass_fields__}
    fields = {name: value for name, value in fields.items() if jax.tree.leaves(value)}
    model = {name: fields.pop(name) for name in MODEL_FIELDS if name in fields}
    return model, fields


def _nelbo(tracked: dict[str, float] | None) -> float:
    return (tracked or {}).get("val/nelbo", math.inf)


def _best(folder: Path) -> tuple[int, float] | None:
    """``(step, validation NELBO)`` of the best checkpoint in ``folder``, the first of equals."""
    found = []
    for step in saved_steps(folder):
        with contextlib.suppress(OSError, ValueError):  # being deleted, or damaged: not the best then
            found.append((_nelbo(json.loads((folder / str(step) / "metrics" / "metrics").read_text())), step))
    value, step = min(found, default=(math.inf, 0))
    return (step, value) if math.isfinite(value) else None


def _is_not_raised_too(record: logging.LogRecord) -> bool:
    """Of the log: not the tracebacks that Orbax prints of errors which it also raises."""
    return not (record.exc_info and "orbax" in Path(record.pathname).parts)


def _first_line(error: object) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _set_aside(folder: Path, bad: dict[int, str], good: int) -> None:
    """Moves what cannot be read to ``unreadable-STEP`` beside the others, and says what is lost."""
    for step, reason in sorted(bad.items()):
        names = (f"unreadable-{step}{more}" for more in ("", *(f"-{n}" for n in range(2, 1000))))
        place = next(folder / name for name in names if not (folder / name).exists())
        os.replace(folder / str(step), place)
        again = f": steps {good + 1} to {step} are done again" if step > good else ", which is whole"
        message = f"checkpoint {step} cannot be read ({reason}); continuing from checkpoint {good}{again}. "
        warnings.warn(message + f"What is left of it is in {place}", stacklevel=2)


def _discard_damaged(folder: Path) -> str:
    """Sets checkpoints aside that are not what was written; a text if then none is left, and they stay."""
    bad = {step: reason for step in saved_steps(folder) if (reason := integrity.damage(folder / str(step)))}
    good = [step for step in saved_steps(folder) if step not in bad]
    if bad and not good:
        latest = max(bad)
        return f"none of the checkpoints {sorted(bad)} in {folder} can be read; of the latest, {bad[latest]}"
    # A kill may have cut the deletion of an old one short: the next save finishes it.
    deleted = [step for step in bad if step < good[-1] and integrity.missing_files(folder / str(step))]
    _set_aside(folder, {step: reason for step, reason in bad.items() if step not in deleted}, max(good, default=0))
    return ""


class Checkpoints:
    """The checkpoints of one run: the ``keep`` latest and the best by validation NELBO.

    Unless ``read_only``, opening sets damaged ones aside (`integrity`), with a warning.

    Raises:
      CheckpointError: there are checkpoints, and all are damaged.
    """

    def __init__(self, workdir: str | os.PathLike, keep: int = 2, read_only: bool = False):
        self.folder = Path(workdir).absolute() / CHECKPOINTS
        self._saving: int | None = None
        logging.getLogger("absl").addFilter(_is_not_raised_too)
        if not read_only:
            problem = _discard_damaged(self.folder) if processes.is_writer() else ""
            if not processes.all_agree(not problem):
                raise CheckpointError(problem or "no checkpoint can be read; the first process says why")
        best = BestN(get_metric_fn=_nelbo, reverse=True, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            save_interval_steps=0 if read_only else 1,
            preservation_policy=AnyPreservationPolicy([LatestN(keep), best]),
            best_fn=_nelbo,
            best_mode="min",
            read_only=read_only,
            create=not read_only,
            cleanup_tmp_directories=not read_only,
            lightweight_initialize=read_only,
            # Called by the first process when all have written, before the folder gets its name.
            async_options=ocp.AsyncOptions(timeout_secs=SAVE_SECONDS, post_finalization_callback=self._write_manifest),
        )
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def steps(self) -> list[int]:
        return sorted(self._manager.all_steps())

    def best(self) -> tuple[int, float] | None:
        """``(step, validation NELBO)`` of the best checkpoint there is."""
        return _best(self.folder)

    def save(self, state: TrainState, metrics: Any, progress: dict[str, Any], nelbo: float | None = None) -> None:
        """Starts a save of the state, of the metrics not logged yet and of ``progress`` (JSON).

        ``nelbo``: of the validation at this very step, if there was one.

        Raises:
          StorageError: this save could not begin, or the one before it failed.
        """
        self.wait()
        self._saving = int(state.step)
        # On a CPU the writer would read the very memory that the next step, which is given it, overwrites.
        state, metrics = jax.tree.map(lambda x: x.copy(), (state, metrics))
        model, rest = _split(state)
        tracked = {"val/nelbo": float(nelbo)} if nelbo is not None and math.isfinite(nelbo) else {}
        items = dict(
            model=ocp.args.StandardSave(model),
            training=ocp.args.StandardSave({**rest, "metrics": metrics}),
            progress=ocp.args.JsonSave(progress),
        )
        with self._failure_explained():
            self._manager.save(self._saving, args=ocp.args.Composite(**items), metrics=tracked)

    def restore(self, step: int, like: TrainState, metrics_like: Any) -> tuple[TrainState, Any, dict[str, Any]]:
        """``(state, metrics, progress)`` with the shapes and shardings of the abstract arguments."""
        model, rest = _split(like)
        items = dict(
            model=ocp.args.StandardRestore(model),
            training=ocp.args.StandardRestore({**rest, "metrics": metrics_like}),
            progress=ocp.args.JsonRestore(),
        )
        restored = self._manager.restore(step, args=ocp.args.Composite(**items))
        training = dict(restored["training"])
        metrics = training.pop("metrics")
        return like.replace(**restored["model"], **training), metrics, restored["progress"]

    def restore_latest(self, like: TrainState, metrics_like: Any) -> tuple[TrainState, Any, dict[str, Any]] | None:
        """The latest checkpoint that can be read, or None if there is none.

        One that cannot be read is moved to ``unreadable-STEP`` beside the others, with a warning.

        Raises:
          CheckpointError: there are checkpoints, and none can be read.
        """
        failed: dict[int, str] = {}
        for step in reversed(self.steps()):
            problem = ""
            try:
                result = self.restore(step, like, metrics_like)
            except Exception as error:  # Orbax raises whatever its storage layers raise
                problem = _first_line(error)
            if not processes.all_agree(not problem):
                failed[step] = problem or "another process cannot read it"
                continue
            if failed:
                if processes.is_writer():
                    _set_aside(self.folder, failed, step)
                processes.barrier("checkpoints set aside")
                self._manager.reload()
            return result
        if failed:
            raise CheckpointError(
                f"none of the checkpoints {sorted(failed)} in {self.folder} can be read; "
                f"the latest fails with: {failed[max(failed)]}"
            )
        return None

    def wait(self) -> None:
        """Returns when what was saved is on disk.

        Raises:
          StorageError: the save failed.
        """
        with self._failure_explained():
            self._manager.wait_until_finished()

    def _write_manifest(self) -> None:
        # The folder's name is the step's, with or without Orbax's ending for what is not complete yet.
        for folder in (self.folder / str(self._saving), *self.folder.glob(f"{self._saving}.*")):
            if folder.is_dir():
                integrity.write_manifest(folder)

    @contextlib.contextmanager
    def _failure_explained(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Orbax raises whatever its storage layers raise
            steps = [step for step in saved_steps(self.folder) if step != self._saving]
            after = f"continues from checkpoint {steps[-1]}, which is whole" if steps else "begins anew"
            raise StorageError(
                f"checkpoint {self._saving} could not be saved ({full_disk(error) or _first_line(error)}; "
                f"{free_space(self.folder)}). The run stopped; once it can be saved, the same command {after}"
            ) from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            with self._failure_explained():
                self._manager.close()
        except StorageError:
            if kind is None:  # else a failure is on its way already
                raise


def load_variables(
    workdir: str | os.PathLike, step: str | int = "best", sharding: jax.sharding.Sharding | None = None
) -> tuple[dict[str, Any], int]:
    """``(variables for model.apply, step)`` of a run: averaged parameters once averaging is on.

    Args:
      step: ``best`` (by validation NELBO; the last where no checkpoint was validated), ``last`` or a number.
      sharding: where the arrays go; default: the first device.

    Raises:
      CheckpointError: there is no such checkpoint, or it cannot be read.
    """
    sharding = sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    folder = Path(workdir).absolute() / CHECKPOINTS
    steps, best = saved_steps(folder), _best(folder)
    if not steps:
        raise CheckpointError(f"{workdir} has no checkpoints yet")
    named = {"last": steps[-1], "best": best[0] if best else steps[-1]}
    number = named.get(step) if step in named else int(step) if str(step).isdigit() else None
    if number not in steps:
        raise CheckpointError(f"{workdir} has no checkpoint {step!r}; there are {steps}, 'best' and 'last'")
    if problem := integrity.damage(folder / str(number), "model"):
        others = f"; the others are {[n for n in steps if n != number]}" if len(steps) > 1 else ""
        raise CheckpointError(f"checkpoint {number} of {workdir} cannot be read: {problem}{others}")
    try:
        manager = ocp.StandardCheckpointer()
        path = folder / str(number) / "model"
        like = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            manager.metadata(path).item_metadata.tree,
        )
        model = manager.restore(path, like)
    except Exception as error:
        raise CheckpointError(f"checkpoint {number} of {workdir} cannot be read: {error}") from error
    return {"params": model.get("ema_params", model["params"]), **model.get("model_state", {})}, number
