"""Checkpoints: a thin adapter over Orbax's CheckpointManager (asynchronous, atomic saves)."""

import math
import os
import warnings
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from hfsgm_jax.training.state import TrainState

FOLDER = "checkpoints"
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


class Checkpoints:
    """The checkpoints of one run: the ``keep`` latest and the best by validation NELBO."""

    def __init__(self, workdir: str | os.PathLike, keep: int = 2, read_only: bool = False):
        self.folder = Path(workdir).absolute() / FOLDER
        best = BestN(get_metric_fn=_nelbo, reverse=True, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            save_interval_steps=0 if read_only else 1,
            preservation_policy=AnyPreservationPolicy([LatestN(keep), best]),
            best_fn=_nelbo,
            best_mode="min",
            read_only=read_only,
            create=not read_only,
            cleanup_tmp_directories=not read_only,
        )
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def steps(self) -> list[int]:
        return sorted(self._manager.all_steps())

    def best(self) -> tuple[int, float] | None:
        """``(step, validation NELBO)`` of the best checkpoint there is."""
        step = self._manager.best_step()
        value = math.inf if step is None else _nelbo(self._manager.metrics(step))
        return (step, value) if math.isfinite(value) else None

    def save(self, state: TrainState, metrics: Any, progress: dict[str, Any], nelbo: float | None = None) -> None:
        """Starts a save of the state, of the metrics not logged yet and of ``progress`` (JSON).

        ``nelbo``: of the validation at this very step, if there was one.
        """
        # On a CPU the writer would read the very memory that the next step, which is given it, overwrites.
        state, metrics = jax.tree.map(lambda x: x.copy(), (state, metrics))
        model, rest = _split(state)
        tracked = {"val/nelbo": float(nelbo)} if nelbo is not None and math.isfinite(nelbo) else {}
        items = dict(
            model=ocp.args.StandardSave(model),
            training=ocp.args.StandardSave({**rest, "metrics": metrics}),
            progress=ocp.args.JsonSave(progress),
        )
        self._manager.save(int(state.step), args=ocp.args.Composite(**items), metrics=tracked)

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
        failed = {}
        for step in reversed(self.steps()):
            try:
                result = self.restore(step, like, metrics_like)
            except Exception as error:  # Orbax raises whatever its storage layers raise
                failed[step] = error
                continue
            for bad, error in failed.items():
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                message = f"checkpoint {bad} cannot be read ({reason}); continuing from checkpoint {step}"
                warnings.warn(message, stacklevel=2)
                os.replace(self.folder / str(bad), self.folder / f"unreadable-{bad}")
            if failed:
                self._manager.reload()
            return result
        if failed:
            raise CheckpointError(
                f"none of the checkpoints {sorted(failed)} in {self.folder} can be read; "
                f"the latest fails with: {failed[max(failed)]}"
            )
        return None

    def wait(self) -> None:
        """Returns when what was saved is on disk."""
        self._manager.wait_until_finished()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self._manager.close()


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
    if not (Path(workdir) / FOLDER).is_dir():
        raise CheckpointError(f"{workdir} has no checkpoints yet")
    sharding = sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    with Checkpoints(workdir, read_only=True) as checkpoints:
        steps, best = checkpoints.steps(), checkpoints.best()
        if not steps:
            raise CheckpointError(f"{workdir} has no checkpoints yet")
        named = {"last": steps[-1], "best": best[0] if best else steps[-1]}
        number = named.get(step) if step in named else int(step) if str(step).isdigit() else None
        if number not in steps:
            raise CheckpointError(f"{workdir} has no checkpoint {step!r}; there are {steps}, 'best' and 'last'")
        try:
            manager = ocp.StandardCheckpointer()
            path = checkpoints.folder / str(number) / "model"
            like = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
                manager.metadata(path).item_metadata.tree,
            )
            model = manager.restore(path, like)
        except Exception as error:
            raise CheckpointError(f"checkpoint {number} of {workdir} cannot be read: {error}") from error
    return {"params": model.get("ema_params", model["params"]), **model.get("model_state", {})}, number
