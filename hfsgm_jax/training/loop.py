"""The training run: set up, restore, then step, log, validate, draw, save, until the end."""

import contextlib
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax
from ml_collections import ConfigDict

from hfsgm_jax import data, processes
from hfsgm_jax.errors import UserError
from hfsgm_jax.run_folder import CHECKPOINTS, SCORE, Folder, best_checkpoint
from hfsgm_jax.training import step as step_lib
from hfsgm_jax.training.checkpoint import Checkpoints, explains_full_disk, restore_latest, take_folder
from hfsgm_jax.training.ending import Ending
from hfsgm_jax.training.log import Log, Meter
from hfsgm_jax.training.setup import Setup, setup
from hfsgm_jax.training.state import TrainState

PICTURE_KEY = 2**31 - 2  # folded into the root key; steps take the numbers below
ENDS = dict(steps="all steps done", minutes="time budget spent", signal="stopped by SIGTERM; run again to continue")


class NonFiniteError(RuntimeError):
    """The loss or its gradient was not finite for too many steps in a row."""


class Summary(NamedTuple):
    """The end of a run, reached because of its ``steps``, its ``minutes`` or a ``signal``.

    Attributes:
      state: the last one, with the steps done and the target images trained on.
      seconds: of training, resumes included.
      best: (step, ``val/objective`` in nats per image) of the best checkpoint.
    """

    state: TrainState
    seconds: float
    best: tuple[int, float] | None
    ended_by: str


def train(config: ConfigDict, workdir: Folder, dataset: data.Dataset | None = None, model: Any = None) -> Summary:
    """Trains the model of ``config`` in ``workdir``, or continues what is there.

    Of several processes (`processes.start`) each calls it with the same arguments.

    Args:
      dataset: the user's own data in place of ``data.source``, split by ``data.split``.
      model: the user's own model in place of ``config.model``.

    Raises:
      ConfigError, DataError: something that the user has to change, before any long work.
      CheckpointError: there are checkpoints, and none can be read.
      StorageError: the disk is full; what was saved before is whole.
      NonFiniteError: names the first of too many non-finite steps in a row.
    """
    workdir = Path(workdir)
    with processes.together(UserError, NonFiniteError), explains_full_disk(workdir):
        s = setup(config, dataset, model)
        take_folder(workdir, s.config, str(s.dataset.info.get("sha256")))
        return _run(s, workdir)


def _run(s: Setup, workdir: Path) -> Summary:
    every, began = s.config.train, time.monotonic()
    state, seconds = restore_latest(workdir, s.abstract_state) or (None, 0.0)
    if state is None:
        state = jax.block_until_ready(s.state)
        seconds = time.monotonic() - began
    step, best, ended_by = int(state.step), best_checkpoint(workdir / CHECKPOINTS), None
    due = lambda steps: steps > 0 and step % steps == 0

    with (
        Checkpoints(workdir, every.keep) as checkpoints,
        processes.together(UserError, NonFiniteError),  # within: closing checkpoints waits for all processes
        Ending(every, s.mesh) as ending,
        Log(workdir, step, every.steps, every.minutes) as log,
        contextlib.closing(s.batches(step)) as batches,
    ):
        log.say(_greeting(s, step, workdir))
        meter = Meter(int(state.images), seconds)
        if step:  # a new run does a step, whatever its time budget
            ended_by = ending.reason(step, seconds)
        while not ended_by:
            batch, began = next(batches), meter.seconds
            state, metrics = s.step(state, batch)
            meter.add(metrics, began)
            step += every.steps_per_dispatch
            log.advance(step)
            ended_by = ending.reason(step, meter.seconds)
            is_end = ended_by in ("steps", "minutes")
            validates, saves = due(every.eval_every) or is_end, due(every.save_every) or bool(ended_by)
            draws = due(every.sample_every) or (is_end and every.sample_every > 0)
            if not (validates or saves or draws or due(every.log_every)):
                continue

            line, score = meter.line(step, state), math.nan
            with meter.paused() as seconds:
                _check_finite(state)
                if validates:
                    line |= s.validate(state.variables)
                    score = line[SCORE]
                if due(every.eval_every):
                    state = s.observe(state, score)
                log.write(line)
                if draws:
                    _draw(s, state, workdir / "samples")
                is_best = math.isfinite(score) and (best is None or score < best[1])
                if is_best:
                    best = step, score
                if saves or is_best:
                    checkpoints.save(state, seconds, score)

        checkpoints.wait()
        log.say(_farewell(ended_by, step, seconds, best, workdir))
    return Summary(state, seconds, best, ended_by)


def _check_finite(state: TrainState) -> None:
    in_a_row = int(state.skipped_in_a_row)
    if in_a_row >= step_lib.MAX_SKIPPED:
        # The state froze when the count was reached; steps since then did nothing.
        problem = f"not finite for {in_a_row} steps in a row, from step {int(state.step) - in_a_row} on"
        advice = "a new --workdir with --config.train.start=THIS_ONE and a lower optimizer.learning_rate goes on"
        raise NonFiniteError(f"loss or gradient were {problem}; {advice}")


def _draw(s: Setup, state: TrainState, folder: Path) -> None:
    from hfsgm_jax.evaluation import pictures  # imported late: matplotlib and the like cost seconds

    key = jax.random.fold_in(jax.random.key(s.config.seed), PICTURE_KEY)
    variables = jax.device_get(state.variables)  # a program of all processes; the others do not draw
    if processes.is_writer():
        pictures.write_sample_grids(s.model, variables, s.fixed_sets, key, folder, int(state.step))


def _greeting(s: Setup, step: int, workdir: Path) -> str:
    count = optax.tree.size(s.abstract_state.params)
    begin = f"continuing {workdir} from step {step}" if step else f"training in {workdir}"
    kind = s.mesh.devices.flat[0].device_kind
    return f"{begin}: {count:,} parameters, {s.mesh.size} device{'s' if s.mesh.size > 1 else ''} ({kind})"


def _farewell(ended_by: str, step: int, seconds: float, best: tuple[int, float] | None, workdir: Path) -> str:
    found = f"; best validation objective {best[1]:.2f} nats per image at step {best[0]}" if best else ""
    return f"{ENDS[ended_by]}: step {step}, {seconds:.0f} s, saved in {workdir}{found}"
